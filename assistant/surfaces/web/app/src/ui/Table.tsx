import type { ReactNode } from "react";

export interface Column<T> {
  name: string;
  show: (row: T) => ReactNode;
  /** Numbers stand under one another. */
  right?: boolean;
}

/** Rows; on a phone each becomes a card with its columns' names beside the values. */
export function Table<T>({ name, rows, columns, id }: { name: string; rows: T[]; columns: Column<T>[]; id: (row: T) => string }) {
  return (
    <div className="table-scroll" tabIndex={0} role="group" aria-label={name}>
      <table className="rows">
        <thead>
          <tr>
            {columns.map((column) => (
              <th key={column.name} scope="col" className={column.right ? "right" : undefined}>
                {column.name || <span className="visually-hidden">Actions</span>}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={id(row)}>
              {columns.map((column) => (
                <td key={column.name} data-name={column.name} className={column.right ? "right" : undefined}>
                  {column.show(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
