// /v1/products and /v1/prices, and the line items of a link, which may define new prices and products.
import { z } from "zod";
import type { Account } from "../account.ts";
import { invalid, missing } from "../errors.ts";
import { newItem, newPrice, newProduct } from "../objects/catalog.ts";
import { currency, flag, mergeMetadata, metadata, natural, positive, read, shape, text } from "../params.ts";
import { idOf, type Item, type Objects } from "../types.ts";
import { listOf, retrieve, type Routes, theOne } from "./route.ts";

const name = z.string().min(1, "You passed an empty string for 'name'.").max(5000);
const productData = z.strictObject({
  name,
  description: text.min(1, "You passed an empty string for 'description'.").optional(),
  metadata: metadata.optional(),
});
const recurring = z.strictObject({
  interval: z.enum(["day", "week", "month", "year"]),
  interval_count: positive.optional(),
});
const taxBehavior = z.enum(["exclusive", "inclusive", "unspecified"]);
const adjustable = z.strictObject({ enabled: flag, minimum: natural.optional(), maximum: natural.optional() });

/** Exactly one of price and price_data is required, and in price_data exactly one of product and product_data. */
export const lineItem = z
  .strictObject({
    price: text.optional(),
    price_data: z
      .strictObject({
        currency,
        product: text.optional(),
        product_data: productData.optional(),
        unit_amount: natural,
        recurring: recurring.optional(),
        tax_behavior: taxBehavior.optional(),
      })
      .refine(({ product, product_data: data }) => (product === undefined) !== (data === undefined), {
        message: "You must specify either `product` or `product_data` when using `price_data`.",
      })
      .optional(),
    quantity: positive,
    adjustable_quantity: adjustable.optional(),
  })
  .refine(({ price, price_data: data }) => (price === undefined) !== (data === undefined), {
    message: "You must specify either `price` or `price_data` on each line item.",
  });

export type LineItem = z.output<typeof lineItem>;

/** Throws if a line item refers to an object that does not exist. */
export function checkItems(account: Account, lines: readonly LineItem[]): void {
  for (const [at, { price, price_data: data }] of lines.entries()) {
    if (price !== undefined) {
      const known = account.store.get("price", price);
      if (known === null) throw missing("price", price, `line_items[${at}][price]`);
      if (!known.active)
        throw invalid(
          "The price specified is inactive. This field only accepts active prices.",
          `line_items[${at}][price]`,
        );
    }
    if (data?.product !== undefined && account.store.get("product", data.product) === null) {
      throw missing("product", data.product, `line_items[${at}][price_data][product]`);
    }
  }
}

/** Creates the line items, with the prices and products that they define. */
export function addItems(account: Account, lines: readonly LineItem[]): Item[] {
  return lines.map((line) => {
    const price = line.price === undefined ? inlinePrice(account, line) : account.store.need("price", line.price);
    const product = account.store.need("product", idOf(price.product));
    const limits = line.adjustable_quantity;
    return newItem({
      price,
      description: product.name,
      quantity: line.quantity,
      adjustable:
        limits === undefined
          ? null
          : { enabled: limits.enabled, minimum: limits.minimum ?? null, maximum: limits.maximum ?? null },
    });
  });
}

function inlinePrice(account: Account, { price_data: data }: LineItem): Objects["price"] {
  if (data === undefined) throw new Error("unreachable: the schema requires price or price_data");
  const { product_data: product } = data;
  const productId = data.product ?? addProduct(account, { ...product, name: product?.name ?? "", active: false }).id;
  return addPrice(account, {
    product: productId,
    currency: data.currency,
    unitAmount: data.unit_amount,
    recurring: recurringOf(data.recurring),
    taxBehavior: data.tax_behavior ?? "unspecified",
    active: false,
  });
}

function recurringOf(order: z.output<typeof recurring> | undefined): Parameters<typeof newPrice>[1]["recurring"] {
  return order === undefined ? null : { interval: order.interval, count: order.interval_count ?? 1 };
}

function addProduct(
  account: Account,
  order: {
    name: string;
    description?: string | undefined;
    metadata?: Record<string, string> | undefined;
    active?: boolean;
  },
): Objects["product"] {
  const { active = true, description = null, metadata: pairs = {} } = order;
  const product = newProduct(account.now, { name: order.name, description, metadata: { ...pairs }, active });
  account.store.add("product", product);
  account.emit("product.created", product);
  return product;
}

function addPrice(account: Account, order: Parameters<typeof newPrice>[1]): Objects["price"] {
  const price = account.store.add("price", newPrice(account.now, order));
  account.emit("price.created", price);
  return price;
}

const productFields = { description: text.optional(), metadata: metadata.optional() };
const newProductShape = shape({ ...productFields, name, active: flag.optional() });
const productUpdate = shape({ ...productFields, name: name.optional(), active: flag.optional() });
const newPriceShape = shape({
  currency,
  product: text,
  unit_amount: natural,
  recurring: recurring.optional(),
  tax_behavior: taxBehavior.optional(),
  nickname: text.optional(),
  lookup_key: text.optional(),
  metadata: metadata.optional(),
});
const active = { active: flag.optional() };

export const catalog: Routes = {
  "GET /v1/products": listOf("product", "/v1/products", active, (product, asked) => {
    return asked.active === undefined || product.active === asked.active;
  }),
  "GET /v1/products/:id": retrieve("product"),
  "POST /v1/products": (account, form) => {
    const { active: isActive = true, ...order } = read(newProductShape, form);
    return () => addProduct(account, { ...order, active: isActive });
  },
  "POST /v1/products/:id": (account, form, id) => {
    const product = theOne(account, "product", id);
    const order = read(productUpdate, form);
    return () => {
      account.change("product.updated", product, {
        name: order.name ?? product.name,
        description: order.description ?? product.description,
        active: order.active ?? product.active,
        metadata: mergeMetadata(product.metadata, order.metadata ?? {}),
        updated: account.now,
      });
      return product;
    };
  },
  "GET /v1/prices": listOf("price", "/v1/prices", { ...active, product: text.optional() }, (price, asked) => {
    const { active: isActive = price.active, product = price.product } = asked;
    return price.active === isActive && price.product === product;
  }),
  "GET /v1/prices/:id": retrieve("price"),
  "POST /v1/prices": (account, form) => {
    const order = read(newPriceShape, form);
    if (account.store.get("product", order.product) === null) throw missing("product", order.product, "product");
    return () =>
      addPrice(account, {
        product: order.product,
        currency: order.currency,
        unitAmount: order.unit_amount,
        recurring: recurringOf(order.recurring),
        taxBehavior: order.tax_behavior ?? "unspecified",
        nickname: order.nickname ?? null,
        lookupKey: order.lookup_key ?? null,
        metadata: { ...order.metadata },
        active: true,
      });
  },
};
