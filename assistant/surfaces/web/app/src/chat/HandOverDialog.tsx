import { useState } from "react";
import { api } from "../lib/api";
import { useAction } from "../lib/load";
import { Link } from "../lib/route";
import type { Packet as Found } from "../lib/types";
import { Button } from "../ui/Button";
import { Dialog } from "../ui/Dialog";
import { Problem } from "../ui/States";
import { Packet } from "./Packet";

/** Hands a question over to a person, and shows the packet as they will see it. */
export function HandOverDialog({ message, question, onClose }: { message: string; question: string; onClose: () => void }) {
  const [made, setMade] = useState<Found | null>(null);
  const { busy, error, run } = useAction();
  const hand = () =>
    run(async () => {
      setMade((await api.post<{ packet: Found }>(`/messages/${message}/escalate`)).packet);
    });
  return (
    <Dialog title={made ? "Handed over" : "Hand over to a person"} onClose={onClose} wide>
      {made ? (
        <Done packet={made} onClose={onClose} />
      ) : (
        <div className="stack">
          <blockquote>{question}</blockquote>
          <p>
            Colleagues who work on hand-overs get this question with its nearest sources, the customer’s history and who has solved its like. Each of
            them sees of it what they may read themselves.
          </p>
          <Problem text={error} />
          <footer>
            <Button look="quiet" onClick={onClose}>
              Cancel
            </Button>
            <Button look="primary" icon="handover" onClick={() => void hand()} busy={busy}>
              Hand over
            </Button>
          </footer>
        </div>
      )}
    </Dialog>
  );
}

function Done({ packet, onClose }: { packet: Found; onClose: () => void }) {
  return (
    <div className="stack">
      <p role="status">It waits for a person now. This is what goes with it:</p>
      <Packet found={packet} />
      <footer>
        <Link href={`/handovers/${packet.id}`} className="button" onClick={onClose}>
          Open it
        </Link>
        <Button look="primary" onClick={onClose}>
          Done
        </Button>
      </footer>
    </div>
  );
}
