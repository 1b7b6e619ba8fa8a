/** @file A report as Markdown (GitHub's flavour). Pictures are left to the HTML version; their numbers are here. */

import type { Block, Inline, ReportDocument, Text } from './document.ts';

export function renderMarkdown(document: ReportDocument): string {
  const facts = document.facts.map(([name, value]) => `${escape(name)}: ${escape(value)}`).join(' · ');
  const sections = document.sections.map(({ title, blocks }) => `## ${escape(title)}\n\n${renderBlocks(blocks)}`);
  return [`# ${escape(document.title)}`, facts, ...sections].join('\n\n') + '\n';
}

export const renderBlocks = (blocks: readonly Block[]): string => blocks.map(renderBlock).filter(Boolean).join('\n\n');

function renderBlock(block: Block): string {
  switch (block.kind) {
    case 'paragraph':
      return inline(block.text);
    case 'list':
      return block.items.map((item) => `- ${inline(item)}`).join('\n');
    case 'code':
      return fence(block.text);
    case 'figure':
      return '';
    case 'table': {
      const line = (cells: string[]): string => `| ${cells.join(' | ')} |`;
      return [
        `**${escape(block.caption)}**`,
        '',
        line(block.columns.map(({ title }) => escape(title))),
        line(block.columns.map(({ align }) => (align === 'right' ? '---:' : '---'))),
        ...block.rows.map((row) => line(row.map(inline))),
      ].join('\n');
    }
  }
}

const inline = (text: Text): string => (typeof text === 'string' ? escape(text) : text.map(renderInline).join(''));

function renderInline(part: Inline): string {
  if (typeof part === 'string') return escape(part);
  if ('code' in part) return codeSpan(part.code);
  if ('strong' in part) return `**${escape(part.strong)}**`;
  return `[${escape(part.text)}](${part.link.replaceAll(' ', '%20').replaceAll(')', '%29')})`;
}

/** Model output and names of the user's show as they are, whatever characters they hold. */
const escape = (text: string): string =>
  text.replace(/[\\`*_{}[\]<>#|~&]/g, (character) => `\\${character}`).replace(/\s*[\r\n]+\s*/g, ' ');

/** A code span keeps backticks by longer delimiters; a pipe would end a table's cell. */
function codeSpan(code: string): string {
  const longest = Math.max(0, ...(code.match(/`+/g) ?? []).map((run) => run.length));
  const delimiter = '`'.repeat(longest + 1);
  const padding = longest > 0 ? ' ' : '';
  return `${delimiter}${padding}${code.replaceAll('|', '\\|').replace(/[\r\n]+/g, ' ')}${padding}${delimiter}`;
}

function fence(text: string): string {
  const longest = Math.max(2, ...(text.match(/`+/g) ?? []).map((run) => run.length));
  const delimiter = '`'.repeat(longest + 1);
  return `${delimiter}\n${text}\n${delimiter}`;
}
