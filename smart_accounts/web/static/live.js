// Keeps the page of one request up to date: the server tells that something changed, then the
// parts that differ are taken from the page as it is now. What somebody is typing stays.
const status = () => document.querySelector("[data-events]");
let stream;

function listen() {
  stream?.close();
  // A browser has few connections to spare for pages that nobody is looking at.
  if (document.hidden || !status()) return;
  stream = new EventSource(status().dataset.events);
  stream.addEventListener("changed", refresh);
  stream.addEventListener("error", () => {
    // It connects again by itself, except where it was answered something else than a stream.
    if (stream.readyState === EventSource.CLOSED) setTimeout(listen, 10000);
  });
}

async function refresh() {
  stream.close();
  try {
    const answer = await fetch(status().dataset.page);
    if (!answer.ok || answer.redirected) throw new Error(answer.status);
    show(new DOMParser().parseFromString(await answer.text(), "text/html"));
    listen();
  } catch {
    setTimeout(listen, 10000); // signed out or an outage: the page stays readable
  }
}

function show(page) {
  for (const part of document.querySelectorAll("[data-part]")) {
    const latest = page.querySelector(`[data-part="${part.dataset.part}"]`);
    if (!latest || latest.dataset.state === part.dataset.state) continue;
    const hadFocus = part.contains(document.activeElement);
    part.replaceWith(latest);
    if (hadFocus) document.getElementById("progress").focus();
  }
  document.querySelector("main").className = page.querySelector("main").className;
  document.title = page.title;
  const steps = document.querySelectorAll(".timeline .what strong");
  const badge = document.querySelector(".standing .badge");
  const news = [...steps].filter((step) => !step.closest(".next")).pop();
  document.getElementById("news").textContent = `${badge.textContent}. ${news.textContent}.`;
}

document.addEventListener("visibilitychange", listen);
document.getElementById("by-itself").hidden = false;
listen();
