import { useState } from "react";
import { useLoad } from "../lib/load";
import type { Conversation, Message, Source } from "../lib/types";
import { AnswerView } from "../chat/AnswerView";
import { Side } from "../chat/Side";
import { SourcePanel } from "../chat/SourcePanel";
import { stored, turn } from "../chat/thread";
import { Icon } from "../ui/Icon";
import { Bar, Shell } from "../ui/Shell";
import { Empty, Show } from "../ui/States";

/** A colleague's conversation, to read. */
export function Shared({ token }: { token: string }) {
  const found = useLoad<Conversation>(`/shared/${encodeURIComponent(token)}`);
  const [beside, setBeside] = useState<{ source: Source; answer: Message | null } | null>(null);
  return (
    <Shell side={<Side />}>
      <div className={beside ? "chat beside" : "chat"}>
        <section className="thread-column" aria-label="Shared conversation">
          <Bar title={found.data?.title ?? "Shared conversation"} />
          <div className="thread" tabIndex={0} role="region" aria-label="Questions and answers">
            <div className="thread-inner">
              {found.missing ? (
                <Empty icon="lock" title="This link doesn’t open for you">
                  <p className="hint">It was taken back, or it cites sources that you may not read.</p>
                </Empty>
              ) : (
                <Show of={found}>
                  {(conversation) => (
                    <>
                      <p className="notice">
                        <Icon name="share" /> {conversation.asked_by || "A colleague"} shared this conversation. You can read it and open its sources.
                      </p>
                      {conversation.messages.map(stored).map(turn).map((shown, at, all) =>
                        shown.role === "user" ? (
                          <div key={shown.id} className="question" role="group" aria-label="Question">
                            <p className="question-text">{shown.text}</p>
                          </div>
                        ) : (
                          // Who reads along can't judge another's answer, so no verdict is offered in the panel.
                          <AnswerView
                            key={shown.id}
                            turn={shown}
                            question={all[at - 1]?.text ?? ""}
                            writing={false}
                            readOnly
                            onSource={(source) => setBeside({ source, answer: null })}
                          />
                        ),
                      )}
                    </>
                  )}
                </Show>
              )}
            </div>
          </div>
        </section>
        {beside && <SourcePanel {...beside} onClose={() => setBeside(null)} />}
      </div>
    </Shell>
  );
}
