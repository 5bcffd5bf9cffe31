// /v1/payment_links: creates, changes and deactivates links.
import { flag, read } from "../params.ts";
import { addItems, checkItems } from "./catalog.ts";
import { changesOf, checkOrder, creation, linkOf, update } from "./linkOrder.ts";
import { linesOf, listOf, retrieve, type Routes, theOne } from "./route.ts";

const path = "/v1/payment_links";

export const links: Routes = {
  [`POST ${path}`]: (account, form) => {
    const order = read(creation, form);
    checkItems(account, order.line_items);
    checkOrder(account, order);
    return () => {
      const items = addItems(account, order.line_items);
      const link = account.store.add("payment_link", linkOf(account, items, order));
      account.items.set(link.id, items);
      account.emit("payment_link.created", link);
      return link;
    };
  },
  [`GET ${path}`]: listOf("payment_link", path, { active: flag.optional() }, (link, asked) => {
    return asked.active === undefined || link.active === asked.active;
  }),
  [`GET ${path}/:id`]: retrieve("payment_link"),
  [`GET ${path}/:id/line_items`]: linesOf("payment_link", path),
  [`POST ${path}/:id`]: (account, form, id) => {
    const link = theOne(account, "payment_link", id);
    const changes = changesOf(link, read(update, form));
    return () => {
      if (Object.keys(changes).length > 0) account.change("payment_link.updated", link, changes);
      return link;
    };
  },
};
