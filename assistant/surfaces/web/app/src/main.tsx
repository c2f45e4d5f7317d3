import { createRoot } from "react-dom/client";
import { config } from "zod";
import { App } from "./App";
import { applyTheme } from "./lib/theme";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/parts.css";
import "./styles/shell.css";
import "./styles/chat.css";
import "./styles/answer.css";
import "./styles/pages.css";

// zod, which reads the stream's parts, would try whether it may compile code; the Content-Security-Policy says no.
config({ jitless: true });
applyTheme();
createRoot(document.getElementById("root")!).render(<App />);
