// Fills in the account's domain from the customer's address, until somebody writes another one.
const email = document.getElementById("customer_email");
const domain = document.getElementById("account_domain");
const ofEmail = () => email.value.split("@").slice(1).pop()?.trim().toLowerCase() ?? "";

let filledIn = domain.value === ofEmail() ? domain.value : "";
email.addEventListener("input", () => {
  if (domain.value && domain.value !== filledIn) return;
  domain.value = filledIn = ofEmail();
});
