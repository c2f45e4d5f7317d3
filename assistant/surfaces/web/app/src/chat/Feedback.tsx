import { useState } from "react";
import { api, said } from "../lib/api";
import type { Message, Source, Verdict } from "../lib/types";
import { IconButton, Button } from "../ui/Button";
import { FormDialog } from "../ui/Dialog";
import { TextField } from "../ui/Field";
import { toast } from "../ui/Toasts";

const REASONS = ["It is wrong", "Something is missing", "It is outdated", "Not what I asked", "It should have declined"];

function mine(answer: Message): Verdict[] {
  return answer.feedback ?? [];
}

/** Thumbs; the one down asks for a reason, because a bare one helps nobody to mend it. */
export function Thumbs({ answer }: { answer: Message }) {
  const [verdict, setVerdict] = useState(() => mine(answer).find((v) => v.verdict === "up" || v.verdict === "down")?.verdict ?? "");
  const [asking, setAsking] = useState(false);
  const up = async () => {
    try {
      await api.post(`/messages/${answer.id}/feedback`, { verdict: "up", comment: "" });
      setVerdict("up");
      toast("Thank you, noted.");
    } catch (error) {
      toast(said(error));
    }
  };
  const down = async (form: FormData) => {
    const comment = [form.get("reason"), form.get("comment")].filter(Boolean).join(": ");
    await api.post(`/messages/${answer.id}/feedback`, { verdict: "down", comment });
    setVerdict("down");
    toast("Thank you. The knowledge owner sees it.");
  };
  return (
    <>
      <IconButton icon="up" label="Good answer" pressed={verdict === "up"} onClick={() => void up()} />
      <IconButton icon="down" label="Bad answer" pressed={verdict === "down"} onClick={() => setAsking(true)} />
      {asking && (
        <FormDialog title="What was wrong with it?" action="Send" onClose={() => setAsking(false)} submit={down}>
          <fieldset className="choices">
            <legend className="visually-hidden">Reason</legend>
            {REASONS.map((reason, at) => (
              <label key={reason} className="choice">
                <input type="radio" name="reason" value={reason} defaultChecked={at === 0} />
                {reason}
              </label>
            ))}
          </fieldset>
          <TextField label="In your words (optional)" name="comment" rows={3} maxLength={2000} />
        </FormDialog>
      )}
    </>
  );
}

/** Says of one cited source that it is wrong or outdated. */
export function SourceVerdict({ answer, source }: { answer: Message; source: Source }) {
  const before = mine(answer).find((v) => v.marker === source.marker && v.verdict.startsWith("source_"));
  const [said, setSaid] = useState(before?.verdict ?? "");
  const [asking, setAsking] = useState(false);
  const send = async (form: FormData) => {
    const verdict = String(form.get("verdict"));
    await api.post(`/messages/${answer.id}/feedback`, { verdict, marker: source.marker, comment: form.get("comment") });
    setSaid(verdict);
    toast("Noted. The knowledge owner sees it with the source.");
  };
  return (
    <>
      <Button small icon={said ? "check" : "flag"} onClick={() => setAsking(true)}>
        {said === "source_wrong" ? "Reported as wrong" : said ? "Reported as outdated" : "Outdated or wrong"}
      </Button>
      {asking && (
        <FormDialog title="Report this source" action="Report" onClose={() => setAsking(false)} submit={send}>
          <p className="hint">{source.title}</p>
          <fieldset className="choices">
            <legend className="visually-hidden">What is wrong</legend>
            <label className="choice">
              <input type="radio" name="verdict" value="source_outdated" defaultChecked />
              It is outdated
            </label>
            <label className="choice">
              <input type="radio" name="verdict" value="source_wrong" />
              It is wrong
            </label>
          </fieldset>
          <TextField label="What is right instead (optional)" name="comment" rows={3} maxLength={2000} />
        </FormDialog>
      )}
    </>
  );
}
