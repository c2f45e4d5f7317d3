import { Marked, type Token, type Tokens } from "marked";
import { Fragment, type ReactNode, memo } from "react";
import { safeUrl } from "../lib/words";
import { copy } from "../ui/Toasts";
import { IconButton } from "../ui/Button";
import { Icon } from "../ui/Icon";

/**
 * Markdown as React elements. marked only takes the text apart; nothing here makes HTML of a string, so
 * tags in a source or an answer are shown as the characters they are. Pictures become links: loading one
 * would tell its server who reads what.
 */
const marked = new Marked({
  gfm: true,
  breaks: true,
  // `[1]: …` at the start of a line is a citation, not the definition of a link.
  tokenizer: { def: () => undefined },
  extensions: [
    {
      name: "cite",
      level: "inline",
      start: (text: string) => text.search(/ ?\[\d/),
      tokenizer: (text: string) => {
        const found = /^ ?\[(\d{1,3})\](?!\()/.exec(text);
        return found ? { type: "cite", raw: found[0], marker: Number(found[1]) } : undefined;
      },
    },
  ],
});

/** Stand around words that are to be marked, and are found again wherever Markdown has put the words. */
export const FROM = "\ue000";
export const TO = "\ue001";

export type Cite = (marker: number, key: string) => ReactNode;

/** Sentences in a row that share a marker show it once, after the last of them. */
const REPEATED = /\s*((?:\[\d+\])+)(?=[^[\]\n]*\1(?!\[))/g;

const ENTITIES: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', "#39": "'", nbsp: "\u00a0" };

/** How one text is shown: what a citation becomes, and whether the words at this point are marked. */
interface Showing {
  cite?: Cite;
  marked: boolean;
}

function literal(text: string, how: Showing): ReactNode {
  const pieces = text.split(/([\ue000\ue001])/);
  if (pieces.length === 1) return how.marked && text ? <mark>{text}</mark> : text;
  return pieces.map((piece, at) => {
    if (piece === FROM || piece === TO) how.marked = piece === FROM;
    else if (piece) return <Fragment key={at}>{literal(piece, how)}</Fragment>;
    return null;
  });
}

function plain(text: string, how: Showing): ReactNode {
  return literal(
    text.replace(/&(amp|lt|gt|quot|#39|nbsp);/g, (whole, name: string) => ENTITIES[name] ?? whole),
    how,
  );
}

export const Markdown = memo(function Markdown({ text, cite }: { text: string; cite?: Cite }) {
  const tokens = marked.lexer(cite ? text.replace(REPEATED, "") : text);
  return <div className="prose">{blocks(tokens, { cite, marked: false })}</div>;
});

function blocks(tokens: Token[], how: Showing): ReactNode {
  return tokens.map((token, at) => <Fragment key={at}>{block(token, how)}</Fragment>);
}

function block(token: Token, how: Showing): ReactNode {
  const inner = () => inline((token as Tokens.Generic).tokens ?? [], how);
  switch (token.type) {
    case "space":
      return null;
    case "heading":
      // The page has its own headings: those of an answer begin below them.
      return token.depth <= 2 ? <h3>{inner()}</h3> : <h4>{inner()}</h4>;
    case "paragraph":
      return <p>{inner()}</p>;
    case "text":
      return (token as Tokens.Text).tokens ? inner() : plain((token as Tokens.Text).text, how);
    case "code":
      return <Code code={token as Tokens.Code}>{literal((token as Tokens.Code).text, how)}</Code>;
    case "blockquote":
      return <blockquote>{blocks((token as Tokens.Blockquote).tokens, how)}</blockquote>;
    case "list":
      return list(token as Tokens.List, how);
    case "table":
      return table(token as Tokens.Table, how);
    case "hr":
      return <hr />;
    default:
      return <p>{literal(token.raw, how)}</p>;
  }
}

function inline(tokens: Token[], how: Showing): ReactNode {
  return tokens.map((token, at) => <Fragment key={at}>{span(token, at, how)}</Fragment>);
}

function span(token: Token, at: number, how: Showing): ReactNode {
  const inner = () => inline((token as Tokens.Generic).tokens ?? [], how);
  switch (token.type) {
    case "text":
      return (token as Tokens.Text).tokens ? inner() : plain((token as Tokens.Text).text, how);
    case "escape":
      return literal((token as Tokens.Escape).text, how);
    case "strong":
      return <strong>{inner()}</strong>;
    case "em":
      return <em>{inner()}</em>;
    case "del":
      return <del>{inner()}</del>;
    case "codespan":
      return <code>{literal((token as Tokens.Codespan).text, how)}</code>;
    case "br":
      return <br />;
    case "cite":
      return how.cite ? how.cite((token as Tokens.Generic).marker as number, `${at}`) : token.raw;
    case "link":
      return <Outside url={bare((token as Tokens.Link).href)}>{inner()}</Outside>;
    case "image":
      return <Outside url={bare((token as Tokens.Image).href)}>{literal((token as Tokens.Image).text || "picture", how)}</Outside>;
    default:
      return literal(token.raw, how);
  }
}

function bare(text: string): string {
  return text.replace(/[\ue000\ue001]/g, "");
}

export function Outside({ url, children }: { url: string; children: ReactNode }) {
  const safe = safeUrl(url);
  if (!safe) return children;
  return (
    <a href={safe} target="_blank" rel="noopener noreferrer nofollow">
      {children}
    </a>
  );
}

/** A way to the source itself, where it has an address that may be followed. */
export function Original({ url }: { url: string }) {
  return (
    safeUrl(url) && (
      <Outside url={url}>
        <Icon name="link" size={16} /> Open the original
      </Outside>
    )
  );
}

function Code({ code: { text, lang }, children }: { code: Tokens.Code; children: ReactNode }) {
  return (
    <div className="code">
      <pre tabIndex={0} aria-label={lang ? `Code, ${lang}` : "Code"}>
        <code>{children}</code>
      </pre>
      <IconButton icon="copy" label="Copy the code" onClick={() => void copy(bare(text))} />
    </div>
  );
}

function list(shown: Tokens.List, how: Showing): ReactNode {
  const items = shown.items.map((item, at) => (
    <li key={at}>
      {item.task && (item.checked ? "☑ " : "☐ ")}
      {blocks(item.tokens, how)}
    </li>
  ));
  return shown.ordered ? <ol start={shown.start || 1}>{items}</ol> : <ul>{items}</ul>;
}

function table(shown: Tokens.Table, how: Showing): ReactNode {
  return (
    <div className="table-scroll" tabIndex={0} role="group" aria-label="Table">
      <table>
        <thead>
          <tr>
            {shown.header.map((cell, at) => (
              <th key={at} scope="col">
                {inline(cell.tokens, how)}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {shown.rows.map((row, at) => (
            <tr key={at}>
              {row.map((cell, column) => (
                <td key={column}>{inline(cell.tokens, how)}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
