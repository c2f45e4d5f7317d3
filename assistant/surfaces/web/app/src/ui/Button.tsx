import type { ButtonHTMLAttributes } from "react";
import { Icon, type IconName } from "./Icon";

type Props = ButtonHTMLAttributes<HTMLButtonElement> & {
  icon?: IconName;
  look?: "plain" | "primary" | "quiet" | "danger";
  busy?: boolean;
  small?: boolean;
};

/** A busy button keeps its focus and says that it is at work; it does nothing meanwhile. */
export function Button({ icon, look = "plain", busy, small, children, className = "", onClick, ...rest }: Props) {
  return (
    <button
      type="button"
      className={`button ${look} ${small ? "small" : ""} ${className}`}
      aria-busy={busy || undefined}
      onClick={busy ? (event) => event.preventDefault() : onClick}
      {...rest}
    >
      {busy ? <span className="spinner" aria-hidden="true" /> : icon && <Icon name={icon} size={small ? 16 : 18} />}
      {children}
    </button>
  );
}

/** A button that is only an icon; `label` is what it says to those who can't see it, and its tooltip. */
export function IconButton({ icon, label, pressed, className = "", ...rest }: Omit<Props, "children"> & { icon: IconName; label: string; pressed?: boolean }) {
  return (
    <button type="button" className={`icon-button ${className}`} aria-label={label} title={label} aria-pressed={pressed} {...rest}>
      <Icon name={icon} />
    </button>
  );
}
