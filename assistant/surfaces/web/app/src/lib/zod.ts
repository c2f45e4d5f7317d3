import { config } from "zod";

// zod, which reads the stream's parts, would try whether it may compile code; the Content-Security-Policy says no.
// A module of its own, since it has to come before those that make schemas.
config({ jitless: true });
