import { useEffect, useState } from "react";
import { api } from "../lib/api";
import { useAction } from "../lib/load";
import { Button } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { Field } from "../ui/Field";
import { Problem } from "../ui/States";
import { copy, toast } from "../ui/Toasts";
import { conversationsChanged } from "./Conversations";

/** A link for colleagues; what they may read still decides whether it opens for them. */
export function ShareDialog({ id, shared, onClose }: { id: string; shared: boolean; onClose: () => void }) {
  const [url, setUrl] = useState("");
  const { busy, error, run } = useAction();
  const make = () =>
    run(async () => {
      const made = await api.post<{ url: string }>(`/conversations/${id}/share`);
      setUrl(new URL(made.url, location.origin).href);
      conversationsChanged();
    });
  useEffect(() => {
    if (shared) void make();
  }, []);
  const stop = () =>
    run(async () => {
      await api.remove(`/conversations/${id}/share`);
      conversationsChanged();
      toast("The link no longer works.");
      onClose();
    });
  return (
    <Dialog title="Share with colleagues" onClose={onClose}>
      <div className="stack">
        <p>Who has the link can read this conversation if they may read every source that its answers cite. It opens for nobody else.</p>
        {url && <Field label="Link" value={url} readOnly onFocus={(event) => event.target.select()} />}
        <Problem text={error} />
        <footer>
          {url ? (
            <>
              <Button look="danger" onClick={() => void stop()} busy={busy}>
                Stop sharing
              </Button>
              <Button look="primary" icon="copy" onClick={() => void copy(url, "Link copied")}>
                Copy the link
              </Button>
            </>
          ) : (
            <Button look="primary" icon="share" onClick={() => void make()} busy={busy}>
              Make a link
            </Button>
          )}
        </footer>
      </div>
    </Dialog>
  );
}
