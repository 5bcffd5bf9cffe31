// Which IP addresses belong to the public internet. Everything else (this machine, private networks, link-local and
// with it the clouds' metadata services, multicast, addresses that embed an IPv4 address) must not be reachable by a
// URL that a tenant has chosen.
import { BlockList, isIP } from "node:net";

// IANA's registries of special-purpose addresses: what is not globally reachable, and what can stand for another
// address.
const SPECIAL_IPV4 = [
  "0.0.0.0/8", // this network; 0.0.0.0 is this machine
  "10.0.0.0/8",
  "100.64.0.0/10", // carrier-grade NAT; also metadata of some clouds
  "127.0.0.0/8",
  "168.63.129.16/32", // Azure's host
  "169.254.0.0/16", // link-local; 169.254.169.254 is the metadata service
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.0.2.0/24",
  "192.31.196.0/24",
  "192.52.193.0/24",
  "192.88.99.0/24", // 6to4 relays
  "192.168.0.0/16",
  "192.175.48.0/24",
  "198.18.0.0/15",
  "198.51.100.0/24",
  "203.0.113.0/24",
  "224.0.0.0/4", // multicast
  "240.0.0.0/4", // reserved, and broadcast
];
// Global unicast is 2000::/3. Outside of it are ::1, ::, IPv4 in IPv6 (::ffff:0:0/96, ::/96, 64:ff9b::/96), unique
// local and link-local addresses, and multicast.
const GLOBAL_IPV6 = "2000::/3";
const SPECIAL_IPV6 = [
  "2001::/23", // protocol assignments, among them Teredo
  "2001:db8::/32",
  "2002::/16", // 6to4
  "2620:4f:8000::/48",
  "3fff::/20",
];

const special = listOf([...SPECIAL_IPV4, ...SPECIAL_IPV6]);
const global = listOf([GLOBAL_IPV6]);

/** Whether an IP address, as text, is a globally reachable unicast address. False for other text. */
export function isPublicAddress(address: string): boolean {
  switch (isIP(address)) {
    case 4:
      return !special.check(address, "ipv4");
    case 6:
      return global.check(address, "ipv6") && !special.check(address, "ipv6");
    default:
      return false;
  }
}

function listOf(ranges: readonly string[]): BlockList {
  const list = new BlockList();
  for (const range of ranges) {
    const [network = "", prefix] = range.split("/");
    list.addSubnet(network, Number(prefix), network.includes(":") ? "ipv6" : "ipv4");
  }
  return list;
}
