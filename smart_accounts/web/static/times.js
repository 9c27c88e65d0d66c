// Shows the times of a page in the reader's time zone. Without scripts they stay in UTC.
function showLocalTimes(page) {
  const partsOf = (at, options) => {
    const parts = new Intl.DateTimeFormat("en", options).formatToParts(at);
    return Object.fromEntries(parts.map(({ type, value }) => [type, value]));
  };
  const two = "2-digit";
  const options = { year: "numeric", month: two, day: two, hour: two, minute: two, hourCycle: "h23", timeZoneName: "short" };
  for (const time of page.querySelectorAll("time")) {
    const at = new Date(time.dateTime);
    if (isNaN(at)) continue; // part of a name that only looks like a time
    const { year, month, day, hour, minute, timeZoneName } = partsOf(at, options);
    const moment = `${year}-${month}-${day} ${hour}:${minute} ${timeZoneName}`;
    if (time.className === "day") {
      time.textContent = `${year}-${month}-${day}`;
      time.title = moment;
    } else {
      time.textContent = moment;
    }
  }
  for (const zone of page.querySelectorAll(".time-zone")) {
    zone.textContent = partsOf(new Date(), { timeZoneName: "longGeneric" }).timeZoneName;
  }
}

showLocalTimes(document);
