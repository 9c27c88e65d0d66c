// Fills in the account domain from the customer's address, until the user types another domain.
const email = document.getElementById("customer_email");
const domain = document.getElementById("account_domain");
const domainOfEmail = () => email.value.split("@").slice(1).pop()?.trim().toLowerCase() ?? "";

let filledIn = domain.value === domainOfEmail() ? domain.value : "";
email.addEventListener("input", () => {
  if (domain.value && domain.value !== filledIn) return;
  domain.value = filledIn = domainOfEmail();
});
