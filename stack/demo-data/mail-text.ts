/** Reading the text of a raw mail of 2002: MIME parts, transfer encodings, HTML, quoted replies. */

export interface Mail {
  subject: string;
  contentType: string;
  transferEncoding: string;
  body: string;
}

/** Splits a raw mail (or MIME part) into the headers that matter and its undecoded body. */
export function parseMail(raw: string): Mail {
  const text = raw.replace(/\r\n?/g, '\n');
  const gap = text.indexOf('\n\n');
  const head = (gap < 0 ? text : text.slice(0, gap)).replace(/\n[ \t]+/g, ' ');
  const header = (name: string): string => new RegExp(`^${name}:[ \\t]*(.*)$`, 'im').exec(head)?.[1]?.trim() ?? '';
  return {
    subject: decodeWords(header('subject')),
    contentType: header('content-type'),
    transferEncoding: header('content-transfer-encoding').toLowerCase(),
    body: gap < 0 ? '' : text.slice(gap + 2),
  };
}

/** Readable text of a mail's body: the first text part, decoded, without HTML, quotations and signature. */
export function bodyText(mail: Mail): string {
  const part = firstTextPart(mail, 0);
  const decoded = decodeTransfer(part.body, part.transferEncoding);
  const html = /text\/html/i.test(part.contentType) || /<(html|body|table|font|p|br)\b/i.test(decoded.slice(0, 2000));
  return (html ? htmlText(decoded) : decoded)
    .replace(/\n-- ?\n[\s\S]*$/, '')
    .split('\n')
    .filter((line) => !/^\s*([>|:}]|[A-Z]{1,3}>)/.test(line) && !/(wrote|writes|said)\s*:?\s*$/.test(line))
    .filter((line) => !/^[\s\-_=*#~+.]*$/.test(line))
    .join(' ');
}

function firstTextPart(mail: Mail, depth: number): Mail {
  const boundary = /^multipart\/.*boundary\s*=\s*"?([^";]+)"?/i.exec(mail.contentType)?.[1];
  if (boundary === undefined || depth > 4) return mail;
  const parts = mail.body
    .split(`--${boundary.trim()}`)
    .slice(1)
    .filter((part) => !part.startsWith('--'))
    .map((part) => parseMail(/^\n\n/.test(part) ? `x:\n\n${part.trimStart()}` : part.replace(/^\s*\n/, '')));
  const text = parts.find((part) => part.contentType === '' || /^(text|multipart)\//i.test(part.contentType));
  return text === undefined ? { ...mail, body: '' } : firstTextPart(text, depth + 1);
}

function decodeTransfer(body: string, encoding: string): string {
  if (encoding === 'base64') return Buffer.from(body, 'base64').toString('latin1');
  // Bulk mail of the time often has the encoding without naming it.
  const quoted = encoding === 'quoted-printable' || (/=\n/.test(body) && /=(3D|20|[89A-F][0-9A-F])/.test(body));
  return quoted ? decodeQuotedPrintable(body.replace(/=[ \t]*\n/g, '')) : body;
}

const decodeQuotedPrintable = (text: string): string =>
  text.replace(/=([0-9A-F]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));

/** RFC 2047 encoded words of a header. */
function decodeWords(text: string): string {
  return text.replace(/=\?[^?]+\?([bq])\?([^?]*)\?=/gi, (_, kind: string, word: string) =>
    kind.toLowerCase() === 'b'
      ? Buffer.from(word, 'base64').toString('latin1')
      : decodeQuotedPrintable(word.replace(/_/g, ' ')),
  );
}

const entities: Record<string, string> = { nbsp: ' ', amp: '&', lt: '<', gt: '>', quot: '"', copy: '(c)', reg: '(r)' };

function htmlText(html: string): string {
  return html
    .replace(/<!--[\s\S]*?(-->|$)/g, ' ')
    .replace(/<(style|script|title)\b[\s\S]*?(<\/\1\s*>|$)/gi, ' ')
    .replace(/<(br|p|div|tr|li|h\d|table)\b[^>]*>/gi, '\n')
    .replace(/<[^>]*(>|$)/g, ' ')
    .replace(/&#(\d{1,5});?/g, (_, code: string) => String.fromCharCode(Number(code)))
    .replace(/&([a-z]+);?/gi, (whole, name: string) => entities[name.toLowerCase()] ?? whole);
}
