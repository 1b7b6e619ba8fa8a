export interface SetupPart {
  id: string;
  title: string;
  version(): string;
  downloadMegabytes: number;
  diskMegabytes: number;
  needs: { python?: boolean; compiler?: boolean };
  check(): Promise<{ ready: boolean; detail: string }>;
}

export const parts: readonly SetupPart[];
