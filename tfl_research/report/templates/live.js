"use strict";
// Asks the server every few seconds whether the page has changed, and puts the new one
// in its place. What the reader has opened stays open, and the page stays where it is.
let tag = null;
function opened() {
  return [...document.querySelectorAll("details[open] > summary")].map((one) => one.textContent);
}
function replace(text) {
  const news = new DOMParser().parseFromString(text, "text/html");
  const fresh = news.querySelector(".wrap");
  if (!fresh) return;
  const kept = new Set(opened());
  const closed = new Set([...document.querySelectorAll("details:not([open]) > summary")].map((one) => one.textContent));
  const focused = document.activeElement?.id;
  const place = [scrollX, scrollY];
  document.querySelector(".wrap").replaceWith(document.adoptNode(fresh));
  document.title = news.title;
  for (const summary of document.querySelectorAll("details > summary")) {
    if (kept.has(summary.textContent)) summary.parentElement.open = true;
    else if (closed.has(summary.textContent)) summary.parentElement.open = false;
  }
  prepare();
  scrollTo(...place);
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}
async function ask() {
  // Not while the reader looks at a value or types.
  if (document.hidden || document.querySelector(".plot .cursor")) return;
  try {
    const response = await fetch(location.pathname, { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
    if (response.status === 200) {
      const first = tag === null;
      tag = response.headers.get("ETag");
      const text = await response.text();
      if (!first || text !== document.documentElement.outerHTML) replace(text);
      document.body.removeAttribute("data-lost");
    }
  } catch (error) {
    document.body.dataset.lost = "";
  }
}
setInterval(ask, 4000);
