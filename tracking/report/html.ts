/** @file A report as one HTML page: no script, no request, light and dark, prints, reads well with a screen reader. */

import type { Block, Inline, ReportDocument, Text } from './document.ts';

export function renderHtml(document: ReportDocument): string {
  const facts = document.facts.map(([name, value]) => `<div><dt>${escape(name)}</dt><dd>${escape(value)}</dd></div>`);
  const contents = document.sections.map(({ id, title }) => `<li><a href="#${id}">${escape(title)}</a></li>`);
  const sections = document.sections.map(
    ({ id, title, blocks }) =>
      `<section aria-labelledby="${id}">\n<h2 id="${id}">${escape(title)}</h2>\n${blocks.map((block, index) => renderBlock(block, `${id}-${index + 1}`)).join('\n')}\n</section>`,
  );
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>${escape(document.title)} · Epsilonflow report</title>
<style>${style}</style>
</head>
<body>
<a class="skip" href="#content">Skip to the content</a>
<header>
<h1>${escape(document.title)}</h1>
<dl class="facts">${facts.join('')}</dl>
<nav aria-label="Contents"><ul>${contents.join('')}</ul></nav>
</header>
<main id="content">
${sections.join('\n')}
</main>
</body>
</html>
`;
}

/** @param id of the block, unique on the page. */
function renderBlock(block: Block, id: string): string {
  switch (block.kind) {
    case 'paragraph':
      return `<p>${inline(block.text)}</p>`;
    case 'list':
      return `<ul>${block.items.map((item) => `<li>${inline(item)}</li>`).join('')}</ul>`;
    case 'code':
      return `<pre tabindex="0"><code>${escape(block.text)}</code></pre>`;
    case 'figure':
      return (
        `<figure>\n<div class="plot" role="img" aria-label="${escape(block.description)}"><div aria-hidden="true">${block.svg}</div></div>\n` +
        `<figcaption>${escape(block.caption)}</figcaption>\n</figure>`
      );
    case 'table': {
      const classOf = (index: number): string => {
        const column = block.columns[index];
        const names = [column?.align === 'right' ? 'number' : '', column?.together ? 'together' : ''].filter(Boolean);
        return names.length > 0 ? ` class="${names.join(' ')}"` : '';
      };
      const head = block.columns.map(({ title }, index) => `<th scope="col"${classOf(index)}>${escape(title)}</th>`);
      const rows = block.rows.map(
        (row) => `<tr>${row.map((text, index) => `<td${classOf(index)}>${inline(text)}</td>`).join('')}</tr>`,
      );
      // A wide table scrolls by itself on a phone, also by keyboard; its caption stays in place above it.
      const caption = `<p class="caption" id="${id}">${escape(block.caption)}</p>`;
      return (
        `${caption}\n<div class="table" role="region" aria-labelledby="${id}" tabindex="0"><table aria-labelledby="${id}">\n` +
        `<thead><tr>${head.join('')}</tr></thead>\n<tbody>\n${rows.join('\n')}\n</tbody>\n</table></div>`
      );
    }
  }
}

const inline = (text: Text): string => (typeof text === 'string' ? escape(text) : text.map(renderInline).join(''));

function renderInline(part: Inline): string {
  if (typeof part === 'string') return escape(part);
  if ('code' in part) return `<code>${escape(part.code)}</code>`;
  if ('strong' in part) return `<strong>${escape(part.strong)}</strong>`;
  return `<a href="${escape(part.link)}">${escape(part.text)}</a>`;
}

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

/** Model output and names of the user's are text, never markup. */
const escape = (text: string): string => text.replace(/[&<>"']/g, (character) => entities[character]!);

const style = `
:root{color-scheme:light dark;--ink:#1c2024;--paper:#fff;--soft:#5b6570;--line:#d9dee3;--tint:#f4f6f8;--link:#0b5cad}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9ec;--paper:#14171a;--soft:#a3adb7;--line:#343b42;--tint:#1d2226;--link:#7db8f5}}
*{box-sizing:border-box}
body{margin:0 auto;overflow-wrap:break-word;padding:2rem 1.25rem 4rem;max-width:66rem;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .75rem}
h2{font-size:1.3rem;margin:2.5rem 0 .5rem;padding-top:.5rem;border-top:1px solid var(--line)}
p,ul{max-width:46rem}
a{color:var(--link)}
.skip{position:absolute;left:-999rem}.skip:focus{position:static}
.facts{display:flex;flex-wrap:wrap;gap:.25rem 1.75rem;margin:0;color:var(--soft);font-size:.9rem}
.facts div{display:flex;gap:.4rem}.facts dt::after{content:":"}.facts dd{margin:0;color:var(--ink)}
nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1.25rem;list-style:none;padding:0;margin:1rem 0 0;font-size:.95rem}
.table{overflow-x:auto;margin:.25rem 0 1rem}
table{border-collapse:collapse;min-width:100%;font-size:.92rem}
.caption{color:var(--soft);font-size:.9rem;margin:1.25rem 0 0}
th,td{text-align:left;vertical-align:top;padding:.4rem .75rem .4rem 0;border-bottom:1px solid var(--line)}
th{font-weight:600;color:var(--soft);white-space:nowrap}
.number{text-align:right}.number,.together{white-space:nowrap;font-variant-numeric:tabular-nums}
figure{margin:1rem 0}
.plot svg{max-width:100%;height:auto;color:var(--ink)}
figcaption{color:var(--soft);font-size:.9rem;max-width:46rem}
code{font:.92em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;background:var(--tint);padding:.05em .3em;border-radius:3px;overflow-wrap:anywhere}
td code{white-space:nowrap}
pre{background:var(--tint);padding:.8rem 1rem;overflow-x:auto;border-radius:4px}pre code{background:none;padding:0}
:focus-visible{outline:2px solid var(--link);outline-offset:2px}
@media print{:root{--ink:#000;--paper:#fff;--soft:#444;--line:#bbb;--tint:#f4f4f4;--link:#000}body{max-width:none;padding:0;font-size:10.5pt}nav,.skip{display:none}section,figure,tr{break-inside:avoid}h2{break-after:avoid}.table{overflow:visible}}
`.replaceAll('\n', '');
