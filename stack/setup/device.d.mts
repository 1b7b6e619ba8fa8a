export const device: 'cpu' | 'gpu';
export function checkDevice(): void;
