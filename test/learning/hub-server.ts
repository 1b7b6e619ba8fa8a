/**
 * @file A server that speaks the protocol of the Hugging Face Hub for one model: its information, list of files, and files
 * by ranges; large ones by redirection to a store.
 */

import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface HubServer {
  address: string;
  /** Paths asked for, in order. */
  asked: string[];
  close(): Promise<void>;
}

export interface HubModel {
  /** `organisation/name` */
  name: string;
  commit: string;
  /** Content by path. */
  files: Record<string, Buffer>;
  /** Token that is asked for; none unless given. */
  token?: string;
  /** Changes what is sent of a file, not what is said of it. */
  damage?: (path: string, content: Buffer) => Buffer;
}

const sha = (kind: 'sha1' | 'sha256', ...parts: (string | Buffer)[]): string =>
  parts.reduce((hash, part) => hash.update(part), createHash(kind)).digest('hex');

const isLarge = (path: string): boolean => path.endsWith('.safetensors');

const entryOf = ([path, content]: [string, Buffer]): Record<string, unknown> => {
  const size = content.length;
  const git = (text: string | Buffer): string => sha('sha1', `blob ${Buffer.byteLength(text)}\0`, text);
  if (!isLarge(path)) return { type: 'file', path, size, oid: git(content) };
  const lfs = { oid: sha('sha256', content), size, pointerSize: 130 };
  return { type: 'file', path, size, oid: git(`pointer to ${lfs.oid}`), lfs };
};

function send(request: IncomingMessage, response: ServerResponse, content: Buffer): void {
  const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '');
  response.setHeader('ETag', `"${sha('sha1', content)}"`);
  if (range === null) {
    response.end(content);
    return;
  }
  const [from, to] = [Number(range[1]), Math.min(Number(range[2]), content.length - 1)];
  response.writeHead(206, { 'Content-Range': `bytes ${from}-${to}/${content.length}` });
  response.end(content.subarray(from, to + 1));
}

export async function serveHub(model: HubModel): Promise<HubServer> {
  const { name, commit, files, token, damage } = model;
  const asked: string[] = [];
  const resolved = `/${name}/resolve/${commit}/`;
  const server = createServer((request, response) => {
    const path = decodeURIComponent(new URL(request.url ?? '/', 'http://hub').pathname);
    asked.push(path);
    const json = (value: unknown, status = 200): void => {
      response.writeHead(status, { 'Content-Type': 'application/json' });
      response.end(JSON.stringify(value));
    };
    const contentOf = (file: string): Buffer | undefined => {
      const content = files[file];
      return content && damage ? damage(file, content) : content;
    };
    if (token !== undefined && request.headers.authorization !== `Bearer ${token}`) {
      json({ error: 'Access to this model is restricted.' }, 401);
    } else if ([`main`, 'v1', commit].some((revision) => path === `/api/models/${name}/revision/${revision}`)) {
      json({ _id: '1', id: name, sha: commit, private: false, downloads: 0, likes: 0, lastModified: '2025-01-01' });
    } else if (path === `/api/models/${name}/tree/${commit}`) {
      json([...Object.entries(files).map(entryOf), { type: 'directory', path: 'onnx', size: 0, oid: '0' }]);
    } else if (path.startsWith(resolved) && contentOf(path.slice(resolved.length)) !== undefined) {
      const file = path.slice(resolved.length);
      if (isLarge(file)) response.writeHead(302, { Location: `/store/${file}` }).end();
      else send(request, response, contentOf(file)!);
    } else if (path.startsWith('/store/')) {
      send(request, response, contentOf(path.slice('/store/'.length))!);
    } else json({ error: 'Repository not found' }, 404);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  return {
    address: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked,
    close: () => new Promise((done) => server.close(() => done())),
  };
}
