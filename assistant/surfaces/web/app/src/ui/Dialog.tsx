import { type FormEvent, type ReactNode, useEffect, useId, useRef } from "react";
import { useAction } from "../lib/load";
import { Button, IconButton } from "./Button";
import { Problem } from "./States";

/** The browser's own modal dialog: it keeps the focus inside, Escape closes it, and the focus returns where it was. */
export function Dialog({ title, onClose, children, wide }: { title: string; onClose: () => void; children: ReactNode; wide?: boolean }) {
  const ref = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const dialog = ref.current!;
    const before = document.activeElement;
    dialog.showModal();
    return () => {
      dialog.close();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return (
    <dialog
      ref={ref}
      className={wide ? "dialog wide" : "dialog"}
      aria-labelledby={id}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onMouseDown={(event) => {
        if (event.target === ref.current) onClose();
      }}
    >
      <div className="dialog-box">
        <header>
          <h2 id={id}>{title}</h2>
          <IconButton icon="close" label="Close" onClick={onClose} />
        </header>
        {children}
      </div>
    </dialog>
  );
}

interface FormProps {
  title: string;
  action: string;
  danger?: boolean;
  children?: ReactNode;
  onClose: () => void;
  submit: (form: FormData) => Promise<unknown>;
}

/** A dialog that asks something and does it; it stays open, and says why, when that fails. */
export function FormDialog({ title, action, danger, children, onClose, submit }: FormProps) {
  const { busy, error, run } = useAction();
  const send = async (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    if (!busy && (await run(() => submit(form)))) onClose();
  };
  return (
    <Dialog title={title} onClose={onClose}>
      <form onSubmit={send} className="stack">
        {children}
        <Problem text={error} />
        <footer>
          <Button look="quiet" onClick={onClose}>
            Cancel
          </Button>
          <Button type="submit" look={danger ? "danger" : "primary"} busy={busy}>
            {action}
          </Button>
        </footer>
      </form>
    </Dialog>
  );
}
