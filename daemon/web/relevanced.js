/*
 * Reports to relevanced what visitors do with search results. Nothing is stored in the browser, and no cookie is sent.
 *
 *   <script src="https://search.example.com/v1/relevanced.js" data-application="shop" async></script>
 *   <ol data-query-id="…">  <li data-document-id="d1"><a href="…">…</a></li>  …  </ol>
 *
 * Clicks within [data-document-id] are reported by themselves; data-position="11" is for pages after the first.
 * By hand:  relevanced.search("stiff neck", ["d1", "d2"]) returns a query_id;
 *           relevanced.report("add_to_cart", query_id, "d1", { position: 1 })
 */
(() => {
  const script = document.currentScript;
  const door = new URL("events", script.src);
  const told = {};
  for (const name of ["application", "clientId", "sessionId"])
    if (script.dataset[name]) told[name.replace(/[A-Z]/, (letter) => "_" + letter.toLowerCase())] = script.dataset[name];

  // JSON, since a page of any site may send text/plain; from another origin the browser asks the server first.
  // keepalive lets the report outlive its page, as sendBeacon does, which would insist on cookies.
  const send = (record) =>
    fetch(door, {
      method: "POST",
      keepalive: true,
      credentials: "omit",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ ...record, ...told, timestamp: new Date().toISOString() }),
    }).catch(() => {}); // a report that is lost must not disturb the page

  const report = (action_name, query_id, document_id, { position, ...attributes } = {}) =>
    send({
      action_name,
      query_id,
      event_attributes: {
        ...attributes,
        ...(document_id && { object: { object_id: document_id } }),
        ...(position && { position: { ordinal: position } }),
      },
    });

  const search = (user_query, document_ids, query_id = crypto.randomUUID()) => {
    send({ query_id, user_query, query_response_hit_ids: document_ids });
    return query_id;
  };

  const clicked = (event) => {
    const hit = event.target instanceof Element && event.target.closest("[data-document-id]");
    const answer = hit && hit.closest("[data-query-id]");
    if (!answer || event.button > 1) return;
    const place = [...answer.querySelectorAll("[data-document-id]")].indexOf(hit) + 1 || 1;
    report("click", answer.dataset.queryId, hit.dataset.documentId, { position: +hit.dataset.position || place });
  };
  addEventListener("click", clicked, true);
  addEventListener("auxclick", clicked, true); // the middle button opens a tab
  window.relevanced = { search, report };
})();
