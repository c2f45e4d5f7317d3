import { Marked, type Token, type Tokens } from "marked";
import { Fragment, type ReactNode, memo } from "react";
import { safeUrl } from "../lib/words";
import { copy } from "../ui/Toasts";
import { IconButton } from "../ui/Button";

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
      start: (text: string) => text.search(/\[\d/),
      tokenizer: (text: string) => {
        const found = /^ ?\[(\d{1,3})\](?!\()/.exec(text);
        return found ? { type: "cite", raw: found[0], marker: Number(found[1]) } : undefined;
      },
    },
  ],
});

export type Cite = (marker: number, key: string) => ReactNode;

/** Sentences in a row that share a marker show it once, after the last of them. */
const REPEATED = /\s*((?:\[\d+\])+)(?=[^[\]\n]*\1(?!\[))/g;

const ENTITIES: Record<string, string> = { amp: "&", lt: "<", gt: ">", quot: '"', "#39": "'", nbsp: "\u00a0" };

function plain(text: string): string {
  return text.replace(/&(amp|lt|gt|quot|#39|nbsp);/g, (whole, name: string) => ENTITIES[name] ?? whole);
}

export const Markdown = memo(function Markdown({ text, cite }: { text: string; cite?: Cite }) {
  const tokens = marked.lexer(cite ? text.replace(REPEATED, "") : text);
  return <div className="prose">{blocks(tokens, cite)}</div>;
});

function blocks(tokens: Token[], cite?: Cite): ReactNode {
  return tokens.map((token, at) => <Fragment key={at}>{block(token, cite)}</Fragment>);
}

function block(token: Token, cite?: Cite): ReactNode {
  const inner = () => inline((token as Tokens.Generic).tokens ?? [], cite);
  switch (token.type) {
    case "space":
    case "def":
      return null;
    case "heading":
      // The page has its own headings: those of an answer begin below them.
      return token.depth <= 2 ? <h3>{inner()}</h3> : <h4>{inner()}</h4>;
    case "paragraph":
      return <p>{inner()}</p>;
    case "text":
      return (token as Tokens.Text).tokens ? inner() : plain((token as Tokens.Text).text);
    case "code":
      return <Code {...(token as Tokens.Code)} />;
    case "blockquote":
      return <blockquote>{blocks((token as Tokens.Blockquote).tokens, cite)}</blockquote>;
    case "list":
      return <List list={token as Tokens.List} cite={cite} />;
    case "table":
      return <Table table={token as Tokens.Table} cite={cite} />;
    case "hr":
      return <hr />;
    default:
      return <p>{token.raw}</p>;
  }
}

function inline(tokens: Token[], cite?: Cite): ReactNode {
  return tokens.map((token, at) => <Fragment key={at}>{span(token, at, cite)}</Fragment>);
}

function span(token: Token, at: number, cite?: Cite): ReactNode {
  const inner = () => inline((token as Tokens.Generic).tokens ?? [], cite);
  switch (token.type) {
    case "text":
      return (token as Tokens.Text).tokens ? inner() : plain((token as Tokens.Text).text);
    case "escape":
      return (token as Tokens.Escape).text;
    case "strong":
      return <strong>{inner()}</strong>;
    case "em":
      return <em>{inner()}</em>;
    case "del":
      return <del>{inner()}</del>;
    case "codespan":
      return <code>{(token as Tokens.Codespan).text}</code>;
    case "br":
      return <br />;
    case "cite":
      return cite ? cite((token as Tokens.Generic).marker as number, `${at}`) : token.raw;
    case "link":
      return <Outside url={(token as Tokens.Link).href}>{inner()}</Outside>;
    case "image":
      return <Outside url={(token as Tokens.Image).href}>{(token as Tokens.Image).text || "picture"}</Outside>;
    default:
      return token.raw;
  }
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

function Code({ text, lang }: Tokens.Code) {
  return (
    <div className="code">
      <pre tabIndex={0} aria-label={lang ? `Code, ${lang}` : "Code"}>
        <code>{text}</code>
      </pre>
      <IconButton icon="copy" label="Copy the code" onClick={() => void copy(text)} />
    </div>
  );
}

function List({ list, cite }: { list: Tokens.List; cite?: Cite }) {
  const items = list.items.map((item, at) => (
    <li key={at}>
      {item.task && (item.checked ? "☑ " : "☐ ")}
      {blocks(item.tokens, cite)}
    </li>
  ));
  return list.ordered ? <ol start={list.start || 1}>{items}</ol> : <ul>{items}</ul>;
}

function Table({ table, cite }: { table: Tokens.Table; cite?: Cite }) {
  return (
    <div className="table-scroll" tabIndex={0} role="region" aria-label="Table">
      <table>
        <thead>
          <tr>
            {table.header.map((cell, at) => (
              <th key={at} scope="col">
                {inline(cell.tokens, cite)}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {table.rows.map((row, at) => (
            <tr key={at}>
              {row.map((cell, column) => (
                <td key={column}>{inline(cell.tokens, cite)}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
