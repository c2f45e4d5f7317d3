import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// The bundle is committed, so it must come out the same wherever it is built: no source maps, no paths, no times.
export default defineConfig({
  plugins: [react()],
  build: {
    outDir: "../static",
    emptyOutDir: true,
    sourcemap: false,
    target: "es2024",
    // A data: URI would need an exception in the Content-Security-Policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 800,
  },
});
