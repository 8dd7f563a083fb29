// A stream of server-sent events that is open only while somebody can see the page, and goes on where it was.

/** Calls `handlers[name](content)` for each event; the event `end` closes the stream for good. */
export function follow(url, handlers) {
  let source = null;
  let last = null;
  let ended = false;

  function open() {
    if (ended || source) return;
    const address = new URL(url, location.href);
    if (last) address.searchParams.set("after", last);
    source = new EventSource(address);
    for (const [name, handle] of Object.entries(handlers))
      source.addEventListener(name, (event) => {
        last = event.lastEventId || last;
        handle(JSON.parse(event.data));
      });
    source.addEventListener("end", () => {
      ended = true;
      close();
    });
  }

  function close() {
    source?.close();
    source = null;
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  window.addEventListener("pagehide", close);
  open();
}

/** Put `html` into `element`, and give the focus back to the control that had it. */
export function replaceInside(element, html) {
  const key = element.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  element.innerHTML = html;
  if (key) element.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
}
