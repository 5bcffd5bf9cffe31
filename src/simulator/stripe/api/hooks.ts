// /v1/events, and /v1/webhook_endpoints: endpoints created through the API, each with its own secret.
import { z } from "zod";
import { newId } from "../ids.ts";
import { emptyable, flag, list, mergeMetadata, metadata, read, shape, text, url } from "../params.ts";
import { matches } from "../webhook/modes.ts";
import { listOf, retrieve, type Routes, theOne } from "./route.ts";

const path = "/v1/webhook_endpoints";
const events = list(z.string().min(1), 500);
const creation = shape({
  url,
  enabled_events: events,
  description: text.optional(),
  metadata: metadata.optional(),
});
const update = shape({
  url: url.optional(),
  enabled_events: events.optional(),
  disabled: flag.optional(),
  description: emptyable(text).optional(),
  metadata: metadata.optional(),
});

export const hooks: Routes = {
  "GET /v1/events": listOf(
    "event",
    "/v1/events",
    { type: text.optional(), types: list(z.string(), 20).optional() },
    (event, asked) => matches(event.type, [asked.type ?? "*"]) && matches(event.type, asked.types ?? ["*"]),
  ),
  "GET /v1/events/:id": retrieve("event"),
  [`GET ${path}`]: listOf("webhook_endpoint", path, {}, () => true),
  [`GET ${path}/:id`]: retrieve("webhook_endpoint"),
  [`POST ${path}`]: (account, form) => {
    const order = read(creation, form);
    return () => {
      const secret = newId("webhook_secret");
      const { url: target, enabled_events: types, description = null } = order;
      const endpoint = account.addEndpoint({ url: target, events: types, secret, description });
      endpoint.metadata = { ...order.metadata };
      // The secret is returned only here.
      return { ...endpoint, secret };
    };
  },
  [`POST ${path}/:id`]: (account, form, id) => {
    const endpoint = theOne(account, "webhook_endpoint", id);
    const order = read(update, form);
    return () => {
      const { disabled } = order;
      return Object.assign(endpoint, {
        url: order.url ?? endpoint.url,
        enabled_events: order.enabled_events ?? endpoint.enabled_events,
        description: order.description === undefined ? endpoint.description : order.description,
        metadata: mergeMetadata(endpoint.metadata, order.metadata ?? {}),
        status: disabled === undefined ? endpoint.status : disabled ? "disabled" : "enabled",
      });
    };
  },
  [`DELETE ${path}/:id`]: (account, form, id) => {
    read(shape({}), form);
    theOne(account, "webhook_endpoint", id);
    return () => {
      account.store.remove(id);
      account.secrets.delete(id);
      return { id, object: "webhook_endpoint", deleted: true };
    };
  },
};
