// A browser can go back to a page that responds to a form only by sending the form again. This
// gives the page the address of the page with the form, which the browser can open again.
if (document.referrer.startsWith(`${location.origin}/`)) history.replaceState(null, "", document.referrer);
