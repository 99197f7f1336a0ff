#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "domain/domain_xml.h"
#include "domain/xml_doc.h"
#include "repository/manifest.h"
#include "repository/naming.h"

#define MAC_LEN		18u

/* ---- what only a running domain has ---- */

/* A socket that libvirt made in its own folders; it makes another one. */
static bool
is_own_socket(xmlNodePtr source, struct err *err)
{
	static const char *const folders[] = { "/var/lib/libvirt/qemu/", "/run/libvirt/", "/var/run/libvirt/" };
	char *path = NULL;
	bool own = false;

	if (!xml_attribute_is(source, "mode", "bind") || xml_attribute(source, "path", &path, err) == -1 || path == NULL)
		return (false);
	for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++)
		own = own || strncmp(path, folders[i], strlen(folders[i])) == 0;
	free(path);
	return (own);
}

static void
clean_character_device(xmlNodePtr n, struct err *err)
{
	xmlNodePtr source = xml_first(n, "source");

	if (xml_attribute_is(n, "type", "pty")) {
		xml_remove_attribute(n, "tty");
		xml_remove(source);
	} else if (is_own_socket(source, err))
		xml_remove(source);
}

/* Names that libvirt makes up for a tap device, and forgets (virDomainNetDefParseXML()). */
static int
clean_interface(xmlNodePtr n, struct err *err)
{
	static const char *const made_up[] = { "vnet", "vif", "macvtap", "macvlan" };
	xmlNodePtr target = xml_first(n, "target");
	char *dev = NULL;

	xml_remove_attribute(xml_first(n, "source"), "portid");
	if (xml_attribute(target, "dev", &dev, err) == -1)
		return (-1);
	for (size_t i = 0; i < sizeof(made_up) / sizeof(made_up[0]); i++)
		if (dev != NULL && strncmp(dev, made_up[i], strlen(made_up[i])) == 0) {
			xml_remove(target);
			break;
		}
	free(dev);
	return (0);
}

/* What a dynamic label became on the old host.  An element that held nothing else was made by libvirt. */
static void
clean_label(xmlNodePtr n)
{
	bool label, image;

	if (xml_attribute_is(n, "type", "static") || xml_attribute_is(n, "type", "none"))
		return;
	label = xml_remove_all(n, "label");
	image = xml_remove_all(n, "imagelabel");
	if ((label || image) && xml_first(n, "baselabel") == NULL && !xml_attribute_is(n, "relabel", "no"))
		xml_remove(n);
}

/* One that begins with "ua-" is the user's own. */
static int
clean_alias(xmlNodePtr device, struct err *err)
{
	xmlNodePtr alias = xml_first(device, "alias");
	char *name = NULL;

	if (xml_attribute(alias, "name", &name, err) == -1)
		return (-1);
	if (name == NULL || strncmp(name, "ua-", 3) != 0)
		xml_remove(alias);
	free(name);
	return (0);
}

static int
clean_devices(xmlNodePtr devices, struct err *err)
{
	static const char *const character[] = { "serial", "parallel", "console", "channel" };

	for (size_t i = 0; i < sizeof(character) / sizeof(character[0]); i++)
		for (xmlNodePtr n = xml_first(devices, character[i]); n != NULL; n = xml_next(n, character[i]))
			clean_character_device(n, err);
	for (xmlNodePtr n = xml_first(devices, "interface"); n != NULL; n = xml_next(n, "interface"))
		if (clean_interface(n, err) == -1)
			return (-1);
	for (xmlNodePtr n = devices != NULL ? devices->children : NULL; n != NULL; n = n->next)
		if (n->type == XML_ELEMENT_NODE && clean_alias(n, err) == -1)
			return (-1);
	return (0);
}

static void
clean_domain(xmlNodePtr root)
{
	static const char *const leftovers[] = { "domaincheckpoint", "domainsnapshot", "checkpoints", "checkpoint" };
	xmlNodePtr next;

	xml_remove_attribute(root, "id");
	for (size_t i = 0; i < sizeof(leftovers) / sizeof(leftovers[0]); i++)
		xml_remove_all(root, leftovers[i]);
	for (xmlNodePtr n = xml_first(root, "seclabel"); n != NULL; n = next) {
		next = xml_next(n, "seclabel");
		clean_label(n);
	}
}

/* ---- disks ---- */

/* The first child that may stand after the <source>, or NULL. */
static xmlNodePtr
after_driver(xmlNodePtr disk)
{
	xmlNodePtr n = xml_first(disk, "driver");

	for (n = n != NULL ? n->next : disk->children; n != NULL; n = n->next)
		if (n->type == XML_ELEMENT_NODE)
			return (n);
	return (NULL);
}

static int
set_driver(xmlNodePtr disk, const char *format, struct err *err)
{
	xmlNodePtr driver = xml_first(disk, "driver");

	if (driver == NULL && ((driver = xml_add(disk, after_driver(disk), "driver", err)) == NULL ||
	    xml_set_attribute(driver, "name", "qemu", err) == -1))
		return (-1);
	/* Of qcow2 only: libvirt refuses them for other formats. */
	if (strcmp(format, "qcow2") != 0) {
		xml_remove_all(driver, "metadata_cache");
		xml_remove_attribute(driver, "discard_no_unref");
	}
	return (xml_set_attribute(driver, "type", format, err));
}

/* A <source> of its own, with nothing of the old one but the labels that somebody chose for the file. */
static int
set_source(xmlNodePtr disk, const struct domain_disk_place *p, struct err *err)
{
	xmlNodePtr old = xml_first(disk, "source"), n, label;

	if ((n = xml_add(disk, old != NULL ? old : after_driver(disk), "source", err)) == NULL ||
	    xml_set_attribute(n, p->block ? "dev" : "file", p->path, err) == -1)
		return (-1);
	while ((label = xml_first(old, "seclabel")) != NULL) {
		xmlUnlinkNode(label);
		xmlAddChild(n, label);
	}
	while ((old = xml_next(n, "source")) != NULL)
		xml_remove(old);
	return (0);
}

static int
place_disk(xmlNodePtr disk, const struct domain_disk_place *p, struct err *err)
{
	static const char *const gone[] = { "auth", "encryption", "backingStore", "mirror", "privateData" };

	for (size_t i = 0; i < sizeof(gone) / sizeof(gone[0]); i++)
		xml_remove_all(disk, gone[i]);
	/* SCSI commands are passed through to a device only. */
	if (xml_attribute_is(disk, "device", "lun") && !p->block) {
		xml_remove_attribute(disk, "rawio");
		xml_remove_attribute(disk, "sgio");
		if (xml_set_attribute(disk, "device", "disk", err) == -1)
			return (-1);
	}
	/* On a file or a device this means a state inside the image, which raw cannot hold. */
	if (xml_attribute_is(disk, "snapshot", "internal") && strcmp(p->format, "qcow2") != 0)
		xml_remove_attribute(disk, "snapshot");
	if (xml_set_attribute(disk, "type", p->block ? "block" : "file", err) == -1 || set_driver(disk, p->format, err) == -1)
		return (-1);
	return (set_source(disk, p, err));
}

/* What stays where it was keeps its backing chain: it is still true. */
static void
leave_disk(xmlNodePtr disk)
{
	xml_remove_all(disk, "mirror");
	xml_remove_attribute(xml_first(disk, "source"), "index");
}

static const struct domain_disk_place *
find_place(const struct domain_change *c, const char *target)
{
	for (size_t i = 0; i < c->nplaces; i++)
		if (strcmp(c->places[i].target, target) == 0)
			return (&c->places[i]);
	return (NULL);
}

static int
change_disks(xmlNodePtr devices, const struct domain_desc *d, const struct domain_change *c, struct err *err)
{
	xmlNodePtr n = xml_first(devices, "disk"), next;
	const struct domain_disk_place *p;

	/* In the order of d->disks, which were read from the same tree. */
	for (size_t i = 0; i < d->ndisks && n != NULL; i++, n = next) {
		next = xml_next(n, "disk");
		if ((p = find_place(c, d->disks[i].target)) != NULL) {
			if (place_disk(n, p, err) == -1)
				return (-1);
		} else if (c->drop_missing && !domain_disk_left(&d->disks[i]))
			xml_remove(n);
		else
			leave_disk(n);
	}
	return (0);
}

/* ---- its identity ---- */

static int
set_child(xmlNodePtr parent, xmlNodePtr before, const char *name, const char *text, struct err *err)
{
	xmlNodePtr n = xml_first(parent, name);

	if (n == NULL && (n = xml_add(parent, before, name, err)) == NULL)
		return (-1);
	return (xml_set_text(n, text, err));
}

/* The UUID that the firmware shows to the guest must be the domain's: libvirt refuses another one. */
static int
set_firmware_uuid(xmlNodePtr root, const char *uuid, struct err *err)
{
	for (xmlNodePtr s = xml_first(root, "sysinfo"); s != NULL; s = xml_next(s, "sysinfo"))
		for (xmlNodePtr n = xml_first(xml_first(s, "system"), "entry"); n != NULL; n = xml_next(n, "entry"))
			if (xml_attribute_is(n, "name", "uuid") && xml_set_text(n, uuid, err) == -1)
				return (-1);
	return (0);
}

/* Addresses in QEMU's range; they differ from each other, whatever chance says. */
static int
set_addresses(xmlNodePtr devices, struct err *err)
{
	uint32_t number;
	xmlNodePtr mac;
	char text[MAC_LEN];

	if (io_random(&number, sizeof(number), err) == -1)
		return (-1);
	for (xmlNodePtr n = xml_first(devices, "interface"); n != NULL; n = xml_next(n, "interface"), number++) {
		if ((mac = xml_first(n, "mac")) == NULL)
			continue;
		snprintf(text, sizeof(text), "52:54:00:%02x:%02x:%02x", number >> 16 & 0xff, number >> 8 & 0xff, number & 0xff);
		if (xml_set_attribute(mac, "address", text, err) == -1)
			return (-1);
	}
	return (0);
}

static int
rename_domain(xmlNodePtr root, const struct domain_change *c, struct err *err)
{
	char made[UUID_LEN] = "";
	const char *uuid = c->uuid != NULL ? c->uuid : made;
	uint8_t id[16];

	if (uuid_random(id, err) == -1)
		return (-1);
	uuid_text(id, made);
	xml_remove_all(root, "genid");
	if (set_child(root, NULL, "name", c->name, err) == -1 ||
	    set_child(root, xmlNextElementSibling(xml_first(root, "name")), "uuid", uuid, err) == -1 || set_firmware_uuid(root, uuid, err) == -1)
		return (-1);
	return (set_addresses(xml_first(root, "devices"), err));
}

/* As plain text: every version of libvirt reads that. */
static int
set_nvram(xmlNodePtr root, const char *path, struct err *err)
{
	xmlNodePtr os = xml_first(root, "os"), n = xml_first(os, "nvram");

	if (os == NULL)
		return (err_set(err, 0, "the domain has no <os>, so it can have no NVRAM"));
	if (n == NULL && (n = xml_add(os, NULL, "nvram", err)) == NULL)
		return (-1);
	xml_remove_attribute(n, "type");
	return (xml_set_text(n, path, err));
}

/* ---- all of it ---- */

static int
check_path(const char *path, struct err *err)
{
	if (path[0] != '/' || !utf8_valid(path))
		return (err_set(err, 0, "\"%s\" cannot stand in a domain's XML: an absolute path in UTF-8 is needed", path));
	return (0);
}

static int
check_change(const struct domain_change *c, const struct domain_desc *d, struct err *err)
{
	uint8_t id[16];

	for (size_t i = 0; i < c->nplaces; i++) {
		if (domain_disk_find(d, c->places[i].target) == NULL)
			return (err_set(err, 0, "the domain has no disk %s", c->places[i].target));
		if (find_place(c, c->places[i].target) != &c->places[i])
			return (err_set(err, 0, "disk %s is placed twice", c->places[i].target));
		if (check_path(c->places[i].path, err) == -1)
			return (-1);
	}
	if (c->name != NULL && domain_name_check(c->name, err) == -1)
		return (-1);
	if (c->uuid != NULL && uuid_parse(c->uuid, id) == -1)
		return (err_set(err, 0, "\"%s\" is no UUID", c->uuid));
	return (c->nvram != NULL ? check_path(c->nvram, err) : 0);
}

static int
change_domain(xmlNodePtr root, const struct domain_desc *d, const struct domain_change *c, struct err *err)
{
	xmlNodePtr devices = xml_first(root, "devices");

	clean_domain(root);
	if (clean_devices(devices, err) == -1 || change_disks(devices, d, c, err) == -1)
		return (-1);
	if (c->name != NULL && rename_domain(root, c, err) == -1)
		return (-1);
	return (c->nvram != NULL ? set_nvram(root, c->nvram, err) : 0);
}

int
domain_rewrite(const char *xml, size_t len, const struct domain_change *c, struct buf *out, struct err *err)
{
	struct domain_desc d = DOMAIN_DESC_INIT;
	xmlDocPtr doc;
	int rc = -1;

	if (domain_desc_parse(&d, xml, len, err) == -1)
		return (-1);
	if ((doc = xml_doc_parse(xml, len, "domain", err)) != NULL && check_change(c, &d, err) == 0 &&
	    change_domain(xmlDocGetRootElement(doc), &d, c, err) == 0)
		rc = xml_doc_write(doc, out, err);
	xmlFreeDoc(doc);
	domain_desc_free(&d);
	return (rc);
}
