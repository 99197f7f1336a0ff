#include "domain/domain_xml.h"

#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "domain/xml_doc.h"
#include "repository/manifest.h"
#include "repository/naming.h"

#define AGENT_CHANNEL	"org.qemu.guest_agent.0"
#define NAME_MAX_BYTES	255u
#define TARGET_MAX	64u
#define ACCOUNT_BUF	65536u		/* bytes, for an entry of passwd or group */

int
domain_name_check(const char *name, struct err *err)
{
	if (name == NULL || name[0] == '\0')
		return (err_set(err, 0, "a domain must have a name"));
	if (strlen(name) > NAME_MAX_BYTES || strchr(name, '/') != NULL || !utf8_valid(name))
		return (err_set(err, 0, "\"%.*s\" is no name of a domain: at most %u bytes, UTF-8, no slash, no control characters", (int)NAME_MAX_BYTES, name,
		    NAME_MAX_BYTES));
	return (0);
}

bool
domain_disk_left(const struct domain_disk *disk)
{
	return (disk->readonly || disk->source == NULL || strcmp(disk->device, "cdrom") == 0 || strcmp(disk->device, "floppy") == 0);
}

static int
set_default(char **value, const char *text, struct err *err)
{
	return (*value == NULL && (*value = strdup(text)) == NULL ? err_nomem(err) : 0);
}

/* "${a}${between}${b}"; what is NULL is empty. */
static int
join(char **out, const char *a, const char *between, const char *b, struct err *err)
{
	if (asprintf(out, "%s%s%s", a != NULL ? a : "", between, b != NULL ? b : "") == -1) {
		*out = NULL;
		return (err_nomem(err));
	}
	return (0);
}

/* "${attribute a}${between}${attribute b}", or nothing when both are missing. */
static int
join_attributes(xmlNodePtr n, const char *a, const char *between, const char *b, char **out, struct err *err)
{
	char *one = NULL, *two = NULL;
	int rc = -1;

	if (xml_attribute(n, a, &one, err) == 0 && xml_attribute(n, b, &two, err) == 0)
		rc = one == NULL && two == NULL ? 0 : join(out, one, between, two, err);
	free(one);
	free(two);
	return (rc);
}

/* The namespace of an NVMe disk on the host's PCI bus: nvme://0000:01:00.0/1. */
static int
nvme_source(xmlNodePtr source, char **out, struct err *err)
{
	xmlNodePtr a = xml_first(source, "address");
	char *domain = NULL, *bus = NULL, *slot = NULL, *function = NULL, *ns = NULL;
	int rc = -1;

	if (xml_attribute(a, "domain", &domain, err) == 0 && xml_attribute(a, "bus", &bus, err) == 0 && xml_attribute(a, "slot", &slot, err) == 0 &&
	    xml_attribute(a, "function", &function, err) == 0 && xml_attribute(source, "namespace", &ns, err) == 0) {
		rc = asprintf(out, "nvme://%04lx:%02lx:%02lx.%lx/%s", strtoul(domain != NULL ? domain : "0", NULL, 0) & 0xffff,
		    strtoul(bus != NULL ? bus : "0", NULL, 0) & 0xff, strtoul(slot != NULL ? slot : "0", NULL, 0) & 0xff,
		    strtoul(function != NULL ? function : "0", NULL, 0) & 0xf, ns != NULL ? ns : "1");
		if (rc == -1) {
			*out = NULL;
			err_nomem(err);
		}
	}
	free(domain);
	free(bus);
	free(slot);
	free(function);
	free(ns);
	return (rc == -1 ? -1 : 0);
}

/* A URI for people, of the disk's network fields; nobody opens it. */
static int
network_uri(const struct domain_disk *d, char **out, struct err *err)
{
	bool six = d->host != NULL && strchr(d->host, ':') != NULL;
	int r;

	if (d->socket != NULL)
		r = asprintf(out, "%s+unix:///%s?socket=%s", d->protocol != NULL ? d->protocol : "?", d->name != NULL ? d->name : "", d->socket);
	else
		r = asprintf(out, "%s://%s%s%s%s%s%s%s", d->protocol != NULL ? d->protocol : "?", six ? "[" : "", d->host != NULL ? d->host : "",
		    six ? "]" : "", d->port != NULL ? ":" : "", d->port != NULL ? d->port : "", d->name != NULL ? "/" : "",
		    d->name != NULL ? d->name : "");
	if (r == -1) {
		*out = NULL;
		return (err_nomem(err));
	}
	return (0);
}

/* The network fields of ${d} from a <source>, and the URI. */
static int
network_source(xmlNodePtr source, struct domain_disk *d, char **out, struct err *err)
{
	xmlNodePtr host = xml_first(source, "host");

	if (xml_attribute(source, "protocol", &d->protocol, err) == -1 || xml_attribute(source, "name", &d->name, err) == -1 ||
	    xml_attribute(host, "name", &d->host, err) == -1 || xml_attribute(host, "port", &d->port, err) == -1 ||
	    xml_attribute(host, "socket", &d->socket, err) == -1)
		return (-1);
	return (d->protocol == NULL && d->name == NULL ? 0 : network_uri(d, out, err));
}

static void
disk_free(struct domain_disk *d)
{
	free(d->target);
	free(d->device);
	free(d->type);
	free(d->source);
	free(d->format);
	free(d->protocol);
	free(d->name);
	free(d->host);
	free(d->port);
	free(d->socket);
	free(d->mirror_source);
	free(d->backing);
	*d = (struct domain_disk){ .target = NULL };
}

/* What a <source> of the type ${type} names.  ${d} takes the network fields, or NULL. */
static int
source_name(xmlNodePtr source, const char *type, struct domain_disk *d, char **out, struct err *err)
{
	static const char *const attributes[][2] = { { "file", "file" }, { "block", "dev" }, { "dir", "dir" }, { "vhostuser", "path" }, { "vhostvdpa", "dev" } };
	struct domain_disk spare = { .target = NULL };
	int rc;

	if (source == NULL)
		return (0);
	if (strcmp(type, "network") == 0) {
		rc = network_source(source, d != NULL ? d : &spare, out, err);
		disk_free(&spare);
		return (rc);
	}
	if (strcmp(type, "volume") == 0)
		return (join_attributes(source, "pool", "/", "volume", out, err));
	if (strcmp(type, "nvme") == 0)
		return (nvme_source(source, out, err));
	for (size_t i = 0; i < sizeof(attributes) / sizeof(attributes[0]); i++)
		if (strcmp(type, attributes[i][0]) == 0)
			return (xml_attribute(source, attributes[i][1], out, err));
	return (0);
}

/* A <mirror> or a <backingStore>, which holds a <source>; before libvirt 1.2.6 a <mirror> had the file as an attribute. */
static int
nested_source(xmlNodePtr n, char **out, struct err *err)
{
	xmlNodePtr source = xml_first(n, "source");
	char *type = NULL;
	int rc = -1;

	if (xml_attribute(n, "type", &type, err) == 0 && set_default(&type, "file", err) == 0)
		rc = source != NULL ? source_name(source, type, NULL, out, err) : xml_attribute(n, "file", out, err);
	free(type);
	return (rc);
}

static int
parse_mirror(xmlNodePtr mirror, struct domain_disk *d, struct err *err)
{
	if (mirror == NULL)
		return (0);
	d->has_mirror = true;
	d->mirror_ready = xml_attribute_is(mirror, "ready", "yes");
	return (nested_source(mirror, &d->mirror_source, err));
}

static int
check_target(const char *target, struct err *err)
{
	if (target == NULL)
		return (err_set(err, 0, "a disk has no <target dev=...>"));
	if (strlen(target) > TARGET_MAX || target[0] == '.' || strchr(target, '/') != NULL || !utf8_valid(target))
		return (err_set(err, 0, "\"%.*s\" is no name of a disk's target", (int)TARGET_MAX, target));
	return (0);
}

static int
parse_disk(xmlNodePtr n, struct domain_disk *d, struct err *err)
{
	xmlNodePtr source = xml_first(n, "source");

	if (xml_attribute(xml_first(n, "target"), "dev", &d->target, err) == -1 || check_target(d->target, err) == -1 ||
	    xml_attribute(n, "device", &d->device, err) == -1 || set_default(&d->device, "disk", err) == -1 ||
	    xml_attribute(n, "type", &d->type, err) == -1 || set_default(&d->type, "file", err) == -1 ||
	    xml_attribute(xml_first(n, "driver"), "type", &d->format, err) == -1 || set_default(&d->format, "raw", err) == -1 ||
	    source_name(source, d->type, d, &d->source, err) == -1 || parse_mirror(xml_first(n, "mirror"), d, err) == -1 ||
	    nested_source(xml_first(n, "backingStore"), &d->backing, err) == -1)
		return (-1);
	d->readonly = xml_first(n, "readonly") != NULL || strcmp(d->device, "cdrom") == 0;
	d->transient = xml_first(n, "transient") != NULL;
	d->shareable = xml_first(n, "shareable") != NULL;
	d->has_encryption = xml_first(n, "encryption") != NULL || xml_first(source, "encryption") != NULL;
	return (0);
}

const struct domain_disk *
domain_disk_find(const struct domain_desc *d, const char *target)
{
	for (size_t i = 0; i < d->ndisks; i++)
		if (strcmp(d->disks[i].target, target) == 0)
			return (&d->disks[i]);
	return (NULL);
}

static int
parse_disks(xmlNodePtr devices, struct domain_desc *d, struct err *err)
{
	struct domain_disk *disk;
	size_t n = 0;

	for (xmlNodePtr x = xml_first(devices, "disk"); x != NULL; x = xml_next(x, "disk"))
		n++;
	if (n > DOMAIN_DISKS_MAX)
		return (err_set(err, 0, "the domain has more than %u disks", DOMAIN_DISKS_MAX));
	if (n > 0 && (d->disks = calloc(n, sizeof(*d->disks))) == NULL)
		return (err_nomem(err));
	for (xmlNodePtr x = xml_first(devices, "disk"); x != NULL; x = xml_next(x, "disk")) {
		disk = &d->disks[d->ndisks];
		if (parse_disk(x, disk, err) == -1 || domain_disk_find(d, disk->target) != NULL) {
			if (disk->target != NULL && domain_disk_find(d, disk->target) != NULL)
				err_set(err, 0, "the domain has two disks %s", disk->target);
			disk_free(disk);
			return (-1);
		}
		d->ndisks++;
	}
	return (0);
}

static int
parse_tpm(xmlNodePtr devices, struct domain_desc *d, struct err *err)
{
	xmlNodePtr backend;

	for (xmlNodePtr x = xml_first(devices, "tpm"); x != NULL; x = xml_next(x, "tpm")) {
		backend = xml_first(x, "backend");
		if (!xml_attribute_is(backend, "type", "emulator"))
			continue;
		d->tpm_emulator = true;
		return (xml_attribute(backend, "version", &d->tpm_version, err));
	}
	return (0);
}

static int
parse_devices(xmlNodePtr devices, struct domain_desc *d, struct err *err)
{
	xmlNodePtr target;

	for (xmlNodePtr x = xml_first(devices, "channel"); x != NULL; x = xml_next(x, "channel")) {
		target = xml_first(x, "target");
		if (xml_attribute_is(target, "name", AGENT_CHANNEL)) {
			d->has_agent = true;
			d->agent_connected = xml_attribute_is(target, "state", "connected");
		}
	}
	if (xml_text(xml_first(devices, "emulator"), &d->emulator, err) == -1 || parse_tpm(devices, d, err) == -1)
		return (-1);
	return (parse_disks(devices, d, err));
}

/* Since libvirt 8.5 the path may stand in a <source>. */
static int
parse_nvram(xmlNodePtr nvram, char **out, struct err *err)
{
	if (xml_first(nvram, "source") != NULL)
		return (nested_source(nvram, out, err));
	return (xml_text(nvram, out, err));
}

/* "+64055" is a number; "libvirt-qemu" is a name, or else a number (virGetUserID() of libvirt reads them so). */
static bool
resolve_id(const char *text, bool group, uint32_t *out)
{
	char *spare = malloc(ACCOUNT_BUF), *end;
	struct passwd pw, *user = NULL;
	struct group gr, *members = NULL;
	unsigned long long v;
	bool found = false;

	if (spare != NULL && text[0] != '+' && group && getgrnam_r(text, &gr, spare, ACCOUNT_BUF, &members) == 0 && members != NULL) {
		*out = members->gr_gid;
		found = true;
	} else if (spare != NULL && text[0] != '+' && !group && getpwnam_r(text, &pw, spare, ACCOUNT_BUF, &user) == 0 && user != NULL) {
		*out = user->pw_uid;
		found = true;
	}
	free(spare);
	if (found)
		return (true);
	text += text[0] == '+';
	v = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end != '\0' || v >= UINT32_MAX)
		return (false);
	*out = (uint32_t)v;
	return (true);
}

static int
parse_dac(xmlNodePtr root, struct domain_desc *d, struct err *err)
{
	char *label = NULL, *colon;

	for (xmlNodePtr x = xml_first(root, "seclabel"); x != NULL && label == NULL; x = xml_next(x, "seclabel"))
		if (xml_attribute_is(x, "model", "dac") && xml_text(xml_first(x, "label"), &label, err) == -1)
			return (-1);
	if (label != NULL && (colon = strchr(label, ':')) != NULL) {
		*colon = '\0';
		d->has_dac = resolve_id(label, false, &d->dac_uid) && resolve_id(colon + 1, true, &d->dac_gid);
	}
	free(label);
	return (0);
}

static int
check_identity(const struct domain_desc *d, struct err *err)
{
	uint8_t id[16];

	if (domain_name_check(d->name, err) == -1)
		return (-1);
	if (d->uuid != NULL && uuid_parse(d->uuid, id) == -1)
		return (err_set(err, 0, "the domain's <uuid> is no UUID"));
	return (0);
}

static int
parse_domain(xmlNodePtr root, struct domain_desc *d, struct err *err)
{
	xmlNodePtr name, uuid, os, devices;

	if (xml_only(root, "name", &name, err) == -1 || xml_only(root, "uuid", &uuid, err) == -1 || xml_only(root, "os", &os, err) == -1 ||
	    xml_only(root, "devices", &devices, err) == -1)
		return (-1);
	if (xml_text(name, &d->name, err) == -1 || xml_text(uuid, &d->uuid, err) == -1 || check_identity(d, err) == -1 ||
	    xml_text(xml_first(os, "loader"), &d->loader, err) == -1 || parse_nvram(xml_first(os, "nvram"), &d->nvram, err) == -1 ||
	    parse_devices(devices, d, err) == -1)
		return (-1);
	return (parse_dac(root, d, err));
}

int
domain_desc_parse(struct domain_desc *d, const char *xml, size_t len, struct err *err)
{
	xmlDocPtr doc;
	int rc;

	*d = (struct domain_desc)DOMAIN_DESC_INIT;
	if ((doc = xml_doc_parse(xml, len, "domain", err)) == NULL)
		return (-1);
	if ((rc = parse_domain(xmlDocGetRootElement(doc), d, err)) == -1)
		domain_desc_free(d);
	xmlFreeDoc(doc);
	return (rc);
}

void
domain_desc_free(struct domain_desc *d)
{
	for (size_t i = 0; i < d->ndisks; i++)
		disk_free(&d->disks[i]);
	free(d->disks);
	free(d->name);
	free(d->uuid);
	free(d->emulator);
	free(d->nvram);
	free(d->loader);
	free(d->tpm_version);
	*d = (struct domain_desc)DOMAIN_DESC_INIT;
}
