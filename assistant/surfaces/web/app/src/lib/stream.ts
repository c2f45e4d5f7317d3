/** How long a stream may be silent, in ms: the server says every second that it is still there. */
const SILENT = 15_000;

/** A streamed answer that fails when its connection is lost. A network that goes away ends nothing by itself. */
export function watched(response: Response): Response {
  if (!response.body) return response;
  let timer = 0;
  let lose = () => {};
  const end = () => {
    clearTimeout(timer);
    removeEventListener("offline", lose);
  };
  const wait = () => {
    clearTimeout(timer);
    timer = window.setTimeout(lose, SILENT);
  };
  const watch: Transformer<Uint8Array, Uint8Array> & { cancel: () => void } = {
    start(controller) {
      lose = () => {
        end();
        controller.error(new TypeError("The network connection was lost."));
      };
      addEventListener("offline", lose);
      wait();
    },
    transform(chunk, controller) {
      wait();
      controller.enqueue(chunk);
    },
    flush: end,
    cancel: end,
  };
  const { status, statusText, headers } = response;
  return new Response(response.body.pipeThrough(new TransformStream(watch)), { status, statusText, headers });
}
