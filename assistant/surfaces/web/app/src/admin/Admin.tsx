import type { ComponentType } from "react";
import { Missing } from "../pages/Missing";
import { Link } from "../lib/route";
import { atLeast, useSession } from "../lib/session";
import type { Role } from "../lib/types";
import { Icon, type IconName } from "../ui/Icon";
import { Bar, Shell } from "../ui/Shell";
import { Empty } from "../ui/States";
import { Audit } from "./Audit";
import { Health } from "./Health";
import { Logins } from "./Logins";
import { Models } from "./Models";
import { People } from "./People";
import { Quality } from "./Quality";
import { Sources } from "./Sources";
import { Usage } from "./Usage";
import "../styles/admin.css";

interface AdminPage {
  title: string;
  icon: IconName;
  role: Role;
  Page: ComponentType;
}

const PAGES: Record<string, AdminPage> = {
  sources: { title: "Sources", icon: "document", role: "admin", Page: Sources },
  logins: { title: "Logins", icon: "lock", role: "admin", Page: Logins },
  people: { title: "People", icon: "person", role: "admin", Page: People },
  models: { title: "Models", icon: "settings", role: "admin", Page: Models },
  quality: { title: "Quality", icon: "check", role: "owner", Page: Quality },
  usage: { title: "Usage", icon: "chart", role: "admin", Page: Usage },
  audit: { title: "Audit log", icon: "history", role: "admin", Page: Audit },
  health: { title: "Health", icon: "flag", role: "admin", Page: Health },
};

export default function Admin({ page }: { page: string }) {
  const { session } = useSession();
  const shown = PAGES[page];
  if (!shown) return <Missing />;
  const { title, role, Page } = shown;
  return (
    <Shell
      wide
      side={
        <nav className="admin-nav" aria-label="Admin">
          <Link href="/" className="me-link">
            <Icon name="back" /> Conversations
          </Link>
          <ul>
            {Object.entries(PAGES)
              .filter(([, entry]) => atLeast(session.person.role, entry.role))
              .map(([name, entry]) => (
                <li key={name}>
                  <Link href={`/admin/${name}`} className="me-link" aria-current={name === page ? "page" : undefined}>
                    <Icon name={entry.icon} /> {entry.title}
                  </Link>
                </li>
              ))}
          </ul>
        </nav>
      }
    >
      <Bar title={title} />
      <div className="page">{atLeast(session.person.role, role) ? <Page /> : <Empty icon="lock" title="This page is for administrators" />}</div>
    </Shell>
  );
}
