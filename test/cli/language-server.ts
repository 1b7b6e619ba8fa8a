/** @file A client of `yaml-language-server`, as editors are one: messages of the Language Server Protocol over stdio. */

import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';

interface Message {
  id?: number;
  method?: string;
  params?: unknown;
  result?: unknown;
  error?: { message: string };
}

export interface Diagnostic {
  message: string;
  range: { start: { line: number; character: number } };
}

export interface CompletionItem {
  label: string;
  documentation?: string | { value: string };
}

/** The catalogue of schemas on the network is left alone: the specs name theirs. */
const settings: Record<string, unknown> = {
  yaml: { validate: true, hover: true, completion: true, schemaStore: { enable: false } },
};

export class LanguageServer {
  private readonly process: ChildProcessWithoutNullStreams;
  private received = Buffer.alloc(0);
  private lastId = 0;
  private readonly answers = new Map<number, (message: Message) => void>();
  private readonly diagnosed = new Map<string, (diagnostics: Diagnostic[]) => void>();

  constructor() {
    const manifest = createRequire(import.meta.url).resolve('yaml-language-server/package.json');
    const program = join(dirname(manifest), 'bin', 'yaml-language-server');
    this.process = spawn(process.execPath, [program, '--stdio']);
    this.process.stdout.on('data', (data: Buffer) => this.receive(data));
  }

  async start(): Promise<void> {
    const textDocument = {
      completion: { completionItem: { documentationFormat: ['markdown'] } },
      hover: { contentFormat: ['markdown'] },
      publishDiagnostics: {},
    };
    const capabilities = { textDocument, workspace: { configuration: true } };
    await this.request('initialize', { processId: process.pid, rootUri: null, capabilities });
    this.send({ method: 'initialized', params: {} });
    this.send({ method: 'workspace/didChangeConfiguration', params: { settings } });
  }

  /** Opens a text as the file of that path; resolves with what is wrong with it. */
  open(path: string, text: string): Promise<Diagnostic[]> {
    const uri = pathToFileURL(path).href;
    const diagnostics = new Promise<Diagnostic[]>((resolve) => this.diagnosed.set(uri, resolve));
    const textDocument = { uri, languageId: 'yaml', version: 1, text };
    this.send({ method: 'textDocument/didOpen', params: { textDocument } });
    return diagnostics;
  }

  async complete(path: string, line: number, character: number): Promise<CompletionItem[]> {
    const { items } = await this.at<{ items: CompletionItem[] }>('completion', path, line, character);
    return items;
  }

  async hover(path: string, line: number, character: number): Promise<string> {
    const found = await this.at<{ contents: { value: string } } | null>('hover', path, line, character);
    return found?.contents.value ?? '';
  }

  stop(): void {
    this.process.kill();
  }

  private at<T>(feature: string, path: string, line: number, character: number): Promise<T> {
    const params = { textDocument: { uri: pathToFileURL(path).href }, position: { line, character } };
    return this.request<T>(`textDocument/${feature}`, params);
  }

  private request<T>(method: string, params: unknown): Promise<T> {
    const id = (this.lastId += 1);
    return new Promise((resolve, reject) => {
      this.answers.set(id, ({ result, error }) => (error ? reject(new Error(error.message)) : resolve(result as T)));
      this.send({ id, method, params });
    });
  }

  private send(message: Message): void {
    const body = JSON.stringify({ jsonrpc: '2.0', ...message });
    this.process.stdin.write(`Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
  }

  private receive(data: Buffer): void {
    this.received = Buffer.concat([this.received, data]);
    for (;;) {
      const head = this.received.indexOf('\r\n\r\n');
      if (head < 0) return;
      const length = Number(/Content-Length: (\d+)/.exec(this.received.toString('latin1', 0, head))![1]);
      if (this.received.length < head + 4 + length) return;
      const message = JSON.parse(this.received.toString('utf8', head + 4, head + 4 + length)) as Message;
      this.received = this.received.subarray(head + 4 + length);
      this.handle(message);
    }
  }

  private handle({ id, method, params, ...answer }: Message): void {
    if (method === undefined) return this.answers.get(id!)?.(answer);
    if (method === 'textDocument/publishDiagnostics') {
      const { uri, diagnostics } = params as { uri: string; diagnostics: Diagnostic[] };
      this.diagnosed.get(uri)?.(diagnostics);
    }
    if (id === undefined) return;
    const items = (params as { items?: { section: string }[] } | undefined)?.items;
    const result = method === 'workspace/configuration' ? items!.map(({ section }) => settings[section] ?? null) : null;
    this.send({ id, result });
  }
}
