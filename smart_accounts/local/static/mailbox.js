// Fetch the list every two seconds and show it if it has changed. Reloading the page instead would
// lose the keyboard focus and the scroll position.
setInterval(async () => {
  let page;
  try {
    const response = await fetch("/");
    if (!response.ok) return;
    page = new DOMParser().parseFromString(await response.text(), "text/html");
  } catch {
    return; // the mailbox is stopped or restarting, so keep the list as it is
  }
  const current = document.querySelector("main");
  const latest = page.querySelector("main");
  if (current.innerHTML === latest.innerHTML) return;
  const focused = document.activeElement?.closest("main a")?.getAttribute("href");
  current.replaceWith(latest);
  document.title = page.title;
  if (focused) latest.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
}, 2000);
