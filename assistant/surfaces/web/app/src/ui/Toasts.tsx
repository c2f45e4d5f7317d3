import { useEffect, useState } from "react";

const SAID = "deskhand:said";

/** Say something short that needs no answer. */
export function toast(text: string): void {
  dispatchEvent(new CustomEvent(SAID, { detail: text }));
}

export function Toasts() {
  const [text, setText] = useState("");
  useEffect(() => {
    let timer = 0;
    const show = (event: Event) => {
      setText((event as CustomEvent<string>).detail);
      clearTimeout(timer);
      timer = window.setTimeout(() => setText(""), 4000);
    };
    addEventListener(SAID, show);
    return () => {
      clearTimeout(timer);
      removeEventListener(SAID, show);
    };
  }, []);
  return (
    <div className="toasts" role="status" aria-live="polite">
      {text && <div className="toast">{text}</div>}
    </div>
  );
}

/** Put a text on the clipboard and say so; false where the browser doesn't let us. */
export async function copy(text: string, said = "Copied"): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without TLS there is no clipboard but on localhost: the old way still works.
    const area = document.createElement("textarea");
    area.value = text;
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    if (!done) {
      toast("The browser doesn't allow copying; select the text and press Ctrl+C.");
      return false;
    }
  }
  toast(said);
  return true;
}
