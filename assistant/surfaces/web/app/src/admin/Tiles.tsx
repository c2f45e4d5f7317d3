/** Numbers to take in at a glance. */
export function Tiles({ items }: { items: { name: string; value: string }[] }) {
  return (
    <dl className="tiles">
      {items.map((item) => (
        <div key={item.name}>
          <dt>{item.name}</dt>
          <dd>{item.value}</dd>
        </div>
      ))}
    </dl>
  );
}
