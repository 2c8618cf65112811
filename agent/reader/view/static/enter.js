// The token is in the address after "#", which a browser sends to nobody. Put it into the form, take it out of the address, and send.
"use strict";
const token = location.hash.slice(1);
if (token) {
  history.replaceState(null, "", location.pathname);
  document.getElementById("token").value = token;
  document.getElementById("enter").submit();
}
