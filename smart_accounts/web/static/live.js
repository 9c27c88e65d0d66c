// Updates the page of one request. When the server reports a change, the script loads the page
// again and replaces the parts that differ. A part that is unchanged keeps what the user is typing.
const status = () => document.querySelector("[data-events]");
let stream;

function listen() {
  stream?.close();
  // Browsers allow few connections per site, so a hidden page must not hold one.
  if (document.hidden || !status()) return;
  stream = new EventSource(status().dataset.events);
  stream.addEventListener("changed", refresh);
  stream.addEventListener("error", () => {
    // The browser reconnects by itself, unless the response was not an event stream. Without a
    // stream, for example because too many pages are open, the page still updates, but later.
    if (stream.readyState === EventSource.CLOSED) setTimeout(refresh, 10000);
  });
}

async function refresh() {
  stream.close();
  try {
    // The redirect to the sign-in leads to another site, which a script may not follow.
    const response = await fetch(status().dataset.page, { redirect: "manual" });
    if (response.type === "opaqueredirect") {
      document.getElementById("live-hint").textContent = "You are no longer signed in. Reload the page to sign in again.";
      return;
    }
    if (!response.ok) throw new Error(response.status);
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    showLocalTimes(page);
    show(page);
    listen();
  } catch {
    setTimeout(listen, 10000); // an outage; the page stays readable
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
  const steps = document.querySelectorAll('[data-part="timeline"] .what strong');
  const badge = document.querySelector(".current-status .badge");
  const lastStep = [...steps].filter((step) => !step.closest(".next")).pop();
  document.getElementById("announcement").textContent = `${badge.textContent}. ${lastStep.textContent}.`;
}

document.addEventListener("visibilitychange", listen);
document.getElementById("live-hint").hidden = false;
listen();
