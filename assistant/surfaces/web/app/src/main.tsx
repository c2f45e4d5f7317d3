import "./lib/zod";
import { createRoot } from "react-dom/client";
import { App } from "./App";
import { applyTheme } from "./lib/theme";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/parts.css";
import "./styles/shell.css";
import "./styles/chat.css";
import "./styles/answer.css";
import "./styles/pages.css";

applyTheme();
createRoot(document.getElementById("root")!).render(<App />);
