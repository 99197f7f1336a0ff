#include "libvirt.h"

#include <fcntl.h>
#include <libxml/parser.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backupd/deadline.h"
#include "base/buf.h"
#include "domain/domain_xml.h"
#include "domain/xml_doc.h"
#include "host.h"

#define BLOCKED_MS	(3600 * 1000)	/* nobody waits so long */

struct _virConnect {
	unsigned int	generation;
	_Atomic int	refs;
};

struct _virDomain {
	virConnectPtr	conn;
	char		uuid[VIR_UUID_STRING_BUFLEN];
};

struct _virDomainSnapshot {
	int		nothing;
};

struct _virDomainCheckpoint {
	virDomainPtr	dom;
	char		name[160];
};

static _Thread_local int last_code;
static _Thread_local char last_text[512];

static int
failed(int code, const char *fmt, ...)
{
	va_list ap;

	last_code = code;
	va_start(ap, fmt);
	vsnprintf(last_text, sizeof(last_text), fmt, ap);
	va_end(ap);
	return (-1);
}

int
virGetLastErrorCode(void)
{
	return (last_code);
}

const char *
virGetLastErrorMessage(void)
{
	return (last_code == 0 ? "no error" : last_text);
}

int
virInitialize(void)
{
	return (0);
}

void
virSetErrorFunc(void *arg, virErrorFunc handler)
{
	(void)arg;
	(void)handler;
}

int
virEventRegisterDefaultImpl(void)
{
	return (0);
}

int
virEventRunDefaultImpl(void)
{
	usleep(100000);
	return (0);
}

static bool
is_dead(virConnectPtr conn)
{
	return (conn->generation != fake->generation || deadline_now() < fake->back);
}

/* The call begins, with the lock held; it fails when the script or the connection says so, and then it is over. */
static int
enter(virConnectPtr conn, const char *key, const char *detail, bool changes)
{
	const struct rule *r = step_begin(key, detail, changes);

	last_code = 0;
	if (is_dead(conn))
		failed(VIR_ERR_INTERNAL_ERROR, "internal error: client socket is closed");
	else if (r != NULL)
		failed(r->code, "%s", r->text);
	else
		return (0);
	step_end(key, detail, changes, true);
	return (-1);
}

static int
leave(const char *key, const char *detail, bool changes, int rc)
{
	if (step_end(key, detail, changes, rc == -1) && rc != -1)
		return (failed(VIR_ERR_INTERNAL_ERROR, "internal error: client socket is closed"));
	return (rc);
}

/* The same for a call on the domain, which must be there, and run if ${running}. */
static int
enter_domain(virDomainPtr dom, const char *key, const char *detail, bool changes, bool running)
{
	if (enter(dom->conn, key, detail, changes) == -1)
		return (-1);
	if (!fake->exists || strcmp(dom->uuid, fake->uuid) != 0)
		failed(VIR_ERR_NO_DOMAIN, "Domain not found: no domain with matching uuid '%s'", dom->uuid);
	else if (running && !fake->active)
		failed(VIR_ERR_OPERATION_INVALID, "Requested operation is not valid: domain is not running");
	else
		return (0);
	return (leave(key, detail, changes, -1));
}

virConnectPtr
virConnectOpen(const char *uri)
{
	const struct rule *r = step_begin("open", "", false);
	virConnectPtr conn = NULL;

	(void)uri;
	if (r != NULL)
		failed(r->code, "%s", r->text);
	else if (deadline_now() < fake->back)
		failed(VIR_ERR_SYSTEM_ERROR, "Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory");
	else if ((conn = calloc(1, sizeof(*conn))) != NULL) {
		conn->generation = fake->generation;
		conn->refs = 1;
	}
	step_end("open", "", false, false);
	return (conn);
}

int
virConnectClose(virConnectPtr conn)
{
	if (--conn->refs == 0)
		free(conn);
	return (0);
}

int
virConnectSetKeepAlive(virConnectPtr conn, int interval, unsigned int count)
{
	(void)conn;
	(void)interval;
	(void)count;
	return (0);
}

int
virConnectIsAlive(virConnectPtr conn)
{
	int alive;

	model_lock();
	alive = !is_dead(conn);
	model_unlock();
	return (alive);
}

char *
virConnectGetDomainCapabilities(virConnectPtr conn, const char *emulator, const char *arch, const char *machine, const char *type, unsigned int flags)
{
	char *caps;

	(void)emulator;
	(void)arch;
	(void)machine;
	(void)type;
	(void)flags;
	if (enter(conn, "caps", "", false) == -1)
		return (NULL);
	caps = strdup(fake->no_backup_api ? "<domainCapabilities/>" : "<domainCapabilities><features><backup supported='yes'/></features></domainCapabilities>");
	leave("caps", "", false, 0);
	return (caps);
}

static virDomainPtr
new_domain(virConnectPtr conn)
{
	virDomainPtr dom = calloc(1, sizeof(*dom));

	if (dom == NULL)
		abort();
	dom->conn = conn;
	conn->refs++;
	snprintf(dom->uuid, sizeof(dom->uuid), "%s", fake->uuid);
	return (dom);
}

int
virConnectListAllDomains(virConnectPtr conn, virDomainPtr **domains, unsigned int flags)
{
	int n = 0;

	(void)flags;
	if (enter(conn, "list", "", false) == -1)
		return (-1);
	if ((*domains = calloc(2, sizeof(**domains))) == NULL)
		abort();
	if (fake->exists)
		(*domains)[n++] = new_domain(conn);
	return (leave("list", "", false, n));
}

virDomainPtr
virDomainLookupByUUIDString(virConnectPtr conn, const char *uuid)
{
	virDomainPtr dom = NULL;

	if (enter(conn, "lookup", "", false) == -1)
		return (NULL);
	if (!fake->exists || strcmp(uuid, fake->uuid) != 0)
		failed(VIR_ERR_NO_DOMAIN, "Domain not found: no domain with matching uuid '%s'", uuid);
	else
		dom = new_domain(conn);
	leave("lookup", "", false, 0);
	return (dom);
}

int
virDomainFree(virDomainPtr dom)
{
	virConnectClose(dom->conn);
	free(dom);
	return (0);
}

virConnectPtr
virDomainGetConnect(virDomainPtr dom)
{
	return (dom->conn);
}

const char *
virDomainGetName(virDomainPtr dom)
{
	(void)dom;
	return (fake->name);
}

int
virDomainGetUUIDString(virDomainPtr dom, char *buf)
{
	memcpy(buf, dom->uuid, VIR_UUID_STRING_BUFLEN);
	return (0);
}

int
virDomainIsActive(virDomainPtr dom)
{
	return (enter_domain(dom, "is-active", "", false, false) == -1 ? -1 : leave("is-active", "", false, fake->active));
}

int
virDomainIsPersistent(virDomainPtr dom)
{
	return (enter_domain(dom, "is-persistent", "", false, false) == -1 ? -1 : leave("is-persistent", "", false, fake->persistent));
}

int
virDomainGetState(virDomainPtr dom, int *state, int *reason, unsigned int flags)
{
	(void)reason;
	(void)flags;
	if (enter_domain(dom, "state", "", false, false) == -1)
		return (-1);
	*state = !fake->active ? VIR_DOMAIN_SHUTOFF : fake->paused ? VIR_DOMAIN_PAUSED : VIR_DOMAIN_RUNNING;
	return (leave("state", "", false, 0));
}

static void
add(struct buf *b, const char *fmt, ...)
{
	char text[2048];
	struct err err;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (buf_add(b, text, strlen(text), &err) == -1)
		abort();
}

/* As virBufferEscapeString() does. */
static const char *
escaped(const char *text, char *out)
{
	size_t n = 0;

	for (; *text != '\0'; text++) {
		const char *as = *text == '&' ? "&amp;" : *text == '<' ? "&lt;" : *text == '>' ? "&gt;" : *text == '\'' ? "&apos;" : *text == '"' ? "&quot;" : NULL;

		n += (size_t)(as != NULL ? sprintf(out + n, "%s", as) : sprintf(out + n, "%c", *text));
	}
	out[n] = '\0';
	return (out);
}

static void
add_disk(struct buf *b, const struct model_disk *d, bool live)
{
	enum place at = model_in_call() ? ON_BASE : live ? d->live : d->config;
	bool block = strcmp(d->type, "block") == 0 && at == ON_BASE;
	char path[6 * MODEL_PATH], base[6 * MODEL_PATH];

	if (at == ON_NOTHING)
		return;
	escaped(at == ON_OVERLAY ? d->overlay : d->base, path);
	escaped(d->base, base);
	add(b, "<disk type='%s' device='disk'><driver name='qemu' type='%s'/><source %s='%s'/>", block ? "block" : "file", at == ON_OVERLAY ? "qcow2" : d->format,
	    block ? "dev" : "file", path);
	if (live && at == ON_OVERLAY)
		add(b, "<backingStore type='%s'><format type='raw'/><source %s='%s'/><backingStore/></backingStore>", d->type,
		    strcmp(d->type, "block") == 0 ? "dev" : "file", base);
	if (live && d->job == JOB_COMMIT)
		add(b, "<mirror type='%s' job='active-commit'%s><format type='raw'/><source %s='%s'/></mirror>", d->type, d->ready ? " ready='yes'" : "",
		    strcmp(d->type, "block") == 0 ? "dev" : "file", base);
	if (live && d->job == JOB_SOMEBODYS_COPY)
		add(b, "<mirror type='file' job='copy' ready='yes'><format type='raw'/><source file='/srv/somebody.img'/></mirror>");
	add(b, "<target dev='%s' bus='virtio'/></disk>", d->target);
}

static void
poll_jobs(void)
{
	for (int i = 0; i < fake->ndisks; i++) {
		struct model_disk *d = &fake->disks[i];

		if (d->job == JOB_COMMIT && ++d->polls > fake->ready_after && !d->ready) {
			d->ready = true;
			model_commit(d);
		}
	}
}

char *
virDomainGetXMLDesc(virDomainPtr dom, unsigned int flags)
{
	bool live = (flags & VIR_DOMAIN_XML_INACTIVE) == 0;
	const char *key = live ? "xml" : "xml-inactive";
	char name[6 * MODEL_PATH];
	struct buf b = BUF_INIT;

	if (enter_domain(dom, key, "", false, false) == -1)
		return (NULL);
	live = (live && fake->active) || !fake->persistent;
	poll_jobs();
	add(&b, "<domain type='kvm'><name>%s</name><uuid>%s</uuid><memory unit='KiB'>1024</memory><vcpu>1</vcpu><os><type>hvm</type></os><devices>"
	    "<emulator>/usr/bin/qemu-system-x86_64</emulator>", escaped(fake->name, name), fake->uuid);
	for (int i = 0; i < fake->ndisks; i++)
		add_disk(&b, &fake->disks[i], live);
	if (fake->has_agent)
		add(&b, "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'%s/></channel>",
		    !live ? "" : fake->agent != AGENT_GONE ? " state='connected'" : " state='disconnected'");
	add(&b, "</devices></domain>%c", '\0');
	leave(key, "", false, 0);
	return (b.ptr);
}

virDomainPtr
virDomainDefineXML(virConnectPtr conn, const char *xml)
{
	struct domain_desc d = DOMAIN_DESC_INIT;
	const struct domain_disk *disk;
	virDomainPtr dom = NULL;
	struct err err;

	if (enter(conn, "define", "", true) == -1)
		return (NULL);
	if (domain_desc_parse(&d, xml, strlen(xml), &err) == -1 || strcmp(d.uuid, fake->uuid) != 0 || strcmp(d.name, fake->name) != 0)
		wrong("defined with XML that is not the domain's: %s", err.text);
	else {
		for (int i = 0; i < fake->ndisks; i++) {
			struct model_disk *m = &fake->disks[i];

			disk = domain_disk_find(&d, m->target);
			m->config = disk == NULL ? ON_NOTHING : strcmp(disk->source, m->overlay) == 0 ? ON_OVERLAY : ON_BASE;
			if (m->config == ON_BASE && (strcmp(disk->source, m->base) != 0 || strcmp(disk->format, m->format) != 0 ||
			    strcmp(disk->type, m->type) != 0))
				wrong("%s: defined with %s, %s in a %s", m->target, disk->source, disk->format, disk->type);
		}
		fake->exists = fake->persistent = true;
		dom = new_domain(conn);
	}
	domain_desc_free(&d);
	leave("define", "", true, dom != NULL ? 0 : -1);
	return (dom);
}

int
virDomainGetBlockInfo(virDomainPtr dom, const char *disk, virDomainBlockInfoPtr info, unsigned int flags)
{
	(void)disk;
	(void)flags;
	if (enter_domain(dom, "block-info", disk, false, false) == -1)
		return (-1);
	*info = (virDomainBlockInfo){ .capacity = 1 << 18, .allocation = 1 << 18, .physical = 1 << 18 };
	return (leave("block-info", disk, false, 0));
}

int
virDomainAgentSetResponseTimeout(virDomainPtr dom, int timeout, unsigned int flags)
{
	(void)flags;
	if (enter_domain(dom, "agent-timeout", "", false, false) == -1)
		return (-1);
	fake->agent_timeout = timeout;
	return (leave("agent-timeout", "", false, 0));
}

/* Whether the agent takes the command; one that hangs is waited for. */
static int
ask_agent(const char *command)
{
	int64_t wait = fake->agent_timeout >= 0 ? (int64_t)fake->agent_timeout * 1000 : BLOCKED_MS;

	if (fake->agent == AGENT_HANGS) {
		model_unlock();
		deadline_nap(wait);
		model_lock();
		model_clock();
		return (failed(VIR_ERR_AGENT_UNRESPONSIVE, "Guest agent is not responding: Guest agent not available for now"));
	}
	if (fake->agent == AGENT_GONE)
		return (failed(VIR_ERR_AGENT_UNRESPONSIVE, "Guest agent is not responding: QEMU guest agent is not connected"));
	if (fake->frozen != 0 && strcmp(command, "guest-fsfreeze-thaw") != 0)
		return (failed(VIR_ERR_INTERNAL_ERROR, "internal error: unable to execute QEMU agent command '%s': Command %s has been disabled: the command "
		    "is not allowed", command, command));
	return (0);
}

int
virDomainGetFSInfo(virDomainPtr dom, virDomainFSInfoPtr **info, unsigned int flags)
{
	virDomainFSInfoPtr fs;

	(void)flags;
	if (enter_domain(dom, "fsinfo", "", false, true) == -1)
		return (-1);
	if (ask_agent("guest-get-fsinfo") == -1)
		return (leave("fsinfo", "", false, -1));
	if ((*info = calloc(1, sizeof(**info))) == NULL || (fs = calloc(1, sizeof(*fs))) == NULL)
		abort();
	fs->mountpoint = strdup("/");
	fs->name = strdup("vda1");
	fs->fstype = strdup("ext4");
	(*info)[0] = fs;
	if (leave("fsinfo", "", false, 1) == 1)
		return (1);
	virDomainFSInfoFree(fs);
	free(*info);
	*info = NULL;
	return (-1);
}

void
virDomainFSInfoFree(virDomainFSInfoPtr info)
{
	free(info->mountpoint);
	free(info->name);
	free(info->fstype);
	free(info);
}

int
virDomainFSFreeze(virDomainPtr dom, const char **mountpoints, unsigned int nmountpoints, unsigned int flags)
{
	int rc;

	(void)mountpoints;
	(void)nmountpoints;
	(void)flags;
	if (enter_domain(dom, "freeze", "", true, true) == -1)
		return (-1);
	if ((rc = ask_agent("guest-fsfreeze-freeze")) == 0)
		rc = fake->frozen = 1;
	return (leave("freeze", "", true, rc));
}

int
virDomainFSThaw(virDomainPtr dom, const char **mountpoints, unsigned int nmountpoints, unsigned int flags)
{
	int rc;

	(void)mountpoints;
	(void)nmountpoints;
	(void)flags;
	if (enter_domain(dom, "thaw", "", true, true) == -1)
		return (-1);
	if ((rc = ask_agent("guest-fsfreeze-thaw")) == 0) {
		rc = fake->frozen;
		fake->frozen = 0;
	}
	return (leave("thaw", "", true, rc));
}

/* Whether anything of the guest is in the way of a new job. */
static int
is_free(void)
{
	if (fake->backup_job)
		return (failed(VIR_ERR_OPERATION_INVALID, "Requested operation is not valid: another backup job is already running"));
	for (int i = 0; i < fake->ndisks; i++)
		if (fake->disks[i].job != JOB_NONE)
			return (failed(VIR_ERR_OPERATION_INVALID, "Requested operation is not valid: disk '%s' has an active block job", fake->disks[i].target));
	return (0);
}

/* Each text of an attribute ${name} of an element ${element}. */
static void
each_attribute(xmlNodePtr n, const char *element, const char *name, void (*fn)(xmlNodePtr n, const char *value))
{
	xmlChar *value;

	for (; n != NULL; n = n->next) {
		if (n->type == XML_ELEMENT_NODE && strcmp((const char *)n->name, element) == 0 && (value = xmlGetProp(n, (const xmlChar *)name)) != NULL) {
			fn(n, (const char *)value);
			xmlFree(value);
		}
		each_attribute(n->children, element, name, fn);
	}
}

static void
create(xmlNodePtr n, const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	(void)n;
	if (fd == -1)
		wrong("QEMU cannot create %s", path);
	else
		close(fd);
}

static void
copy_attribute(xmlNodePtr n, const char *name, char out[160])
{
	xmlChar *value = n != NULL ? xmlGetProp(n, (const xmlChar *)name) : NULL;

	snprintf(out, 160, "%s", value != NULL ? (const char *)value : "");
	xmlFree(value);
}

static xmlNodePtr
first_disk(xmlDocPtr doc)
{
	return (xml_first(xml_first(xmlDocGetRootElement(doc), "disks"), "disk"));
}

/* Whether it has each bitmap that the backup is to go by. */
static int
check_incremental(xmlDocPtr doc)
{
	const struct model_checkpoint *c;
	char target[160], since[160];
	const struct model_disk *d;

	for (xmlNodePtr n = first_disk(doc); n != NULL; n = xml_next(n, "disk")) {
		copy_attribute(n, "name", target);
		copy_attribute(n, "incremental", since);
		if (since[0] == '\0')
			continue;
		if ((c = model_checkpoint(since)) == NULL || !c->known)
			return (failed(VIR_ERR_NO_DOMAIN_CHECKPOINT, "Domain checkpoint not found: no domain checkpoint with matching name '%s'", since));
		if ((d = model_find(target)) == NULL || c->bitmaps[d - fake->disks] != SOUND)
			return (failed(VIR_ERR_CHECKPOINT_INCONSISTENT, "checkpoint inconsistent: missing or broken bitmap '%s' for disk '%s'", since, target));
	}
	return (0);
}

/* The record of a checkpoint, and, if ${make}, its bitmaps. */
static int
record_checkpoint(const char *xml, bool make, bool validate, struct model_checkpoint **out)
{
	xmlDocPtr doc = xmlReadMemory(xml, (int)strlen(xml), NULL, NULL, XML_PARSE_NONET);
	struct model_checkpoint new = { .known = true }, *c;
	char target[160];
	xmlChar *name;
	int rc = 0;

	if (doc == NULL)
		return (failed(VIR_ERR_XML_DETAIL, "(domain_checkpoint) is not well formed"));
	name = xmlNodeGetContent(xml_first(xmlDocGetRootElement(doc), "name"));
	c = model_checkpoint((const char *)name);
	if (c != NULL && c->known)
		rc = failed(VIR_ERR_OPERATION_FAILED, "operation failed: there is a checkpoint %s", (const char *)name);
	for (xmlNodePtr n = first_disk(doc); n != NULL && rc == 0; n = xml_next(n, "disk")) {
		const struct model_disk *d;

		copy_attribute(n, "name", target);
		if (!xml_attribute_is(n, "checkpoint", "bitmap"))
			continue;
		if ((d = model_find(target)) == NULL || strcmp(d->format, "qcow2") != 0)
			rc = failed(VIR_ERR_CONFIG_UNSUPPORTED, "unsupported configuration: checkpoint for disk %s unsupported", target);
		else if (validate && (c == NULL || c->bitmaps[d - fake->disks] != SOUND))
			rc = failed(VIR_ERR_CHECKPOINT_INCONSISTENT, "checkpoint inconsistent: missing or broken bitmap '%s' for disk '%s'", (const char *)name,
			    target);
		else
			new.recorded[d - fake->disks] = true;
	}
	if (rc == 0) {
		c = model_checkpoint_new((const char *)name);
		c->known = true;
		memcpy(c->recorded, new.recorded, sizeof(c->recorded));
		for (int i = 0; i < MODEL_DISKS && make; i++)
			c->bitmaps[i] = c->recorded[i] ? SOUND : NO_BITMAP;
		*out = c;
	}
	xmlFree(name);
	xmlFreeDoc(doc);
	return (rc);
}

static int
begin_job(const char *xml, const char *checkpoint)
{
	xmlDocPtr doc = xmlReadMemory(xml, (int)strlen(xml), NULL, NULL, XML_PARSE_NONET);
	struct model_checkpoint *made;
	int rc;

	if (doc == NULL)
		return (failed(VIR_ERR_XML_DETAIL, "(domain_backup) is not well formed"));
	rc = check_incremental(doc);
	if (rc == 0 && checkpoint != NULL)
		rc = record_checkpoint(checkpoint, true, false, &made);
	if (rc == 0 && fake->late_failures > 0) {
		fake->late_failures--;
		rc = failed(VIR_ERR_INTERNAL_ERROR, "internal error: unable to execute QEMU command 'nbd-server-add'");
	}
	if (rc == 0) {
		each_attribute(xmlDocGetRootElement(doc), "scratch", "file", create);
		each_attribute(xmlDocGetRootElement(doc), "server", "socket", create);
		fake->backup_job = true;
		snprintf(fake->backup_xml, sizeof(fake->backup_xml), "%s", xml);
	}
	xmlFreeDoc(doc);
	return (rc);
}

int
virDomainBackupBegin(virDomainPtr dom, const char *xml, const char *checkpoint, unsigned int flags)
{
	int rc;

	(void)flags;
	if (enter_domain(dom, "backup-begin", "", true, true) == -1)
		return (-1);
	fake->call = VIR_DOMAIN_JOB_OPERATION_BACKUP;
	if ((rc = is_free()) == 0)
		rc = begin_job(xml, checkpoint);
	return (leave("backup-begin", "", true, rc));
}

static virDomainCheckpointPtr
new_checkpoint(virDomainPtr dom, const char *name)
{
	virDomainCheckpointPtr cp = calloc(1, sizeof(*cp));

	if (cp == NULL)
		abort();
	cp->dom = dom;
	snprintf(cp->name, sizeof(cp->name), "%s", name);
	return (cp);
}

virDomainCheckpointPtr
virDomainCheckpointLookupByName(virDomainPtr dom, const char *name, unsigned int flags)
{
	const struct model_checkpoint *c;
	virDomainCheckpointPtr cp = NULL;

	(void)flags;
	if (enter_domain(dom, "checkpoint", "", false, false) == -1)
		return (NULL);
	if ((c = model_checkpoint(name)) != NULL && c->known)
		cp = new_checkpoint(dom, name);
	else
		failed(VIR_ERR_NO_DOMAIN_CHECKPOINT, "Domain checkpoint not found: no domain checkpoint with matching name '%s'", name);
	leave("checkpoint", "", false, 0);
	return (cp);
}

char *
virDomainCheckpointGetXMLDesc(virDomainCheckpointPtr cp, unsigned int flags)
{
	const struct model_checkpoint *c;
	struct buf b = BUF_INIT;

	(void)flags;
	if (enter_domain(cp->dom, "checkpoint-xml", "", false, false) == -1)
		return (NULL);
	if ((c = model_checkpoint(cp->name)) == NULL || !c->known)
		failed(VIR_ERR_NO_DOMAIN_CHECKPOINT, "Domain checkpoint not found");
	else {
		add(&b, "<domaincheckpoint><name>%s</name><disks>", c->name);
		for (int i = 0; i < fake->ndisks; i++)
			add(&b, "<disk name='%s' checkpoint='%s'/>", fake->disks[i].target, c->recorded[i] ? "bitmap" : "no");
		add(&b, "</disks></domaincheckpoint>%c", '\0');
	}
	leave("checkpoint-xml", "", false, 0);
	return (b.ptr);
}

const char *
virDomainCheckpointGetName(virDomainCheckpointPtr cp)
{
	return (cp->name);
}

virDomainCheckpointPtr
virDomainCheckpointCreateXML(virDomainPtr dom, const char *xml, unsigned int flags)
{
	virDomainCheckpointPtr cp = NULL;
	struct model_checkpoint *c = NULL;
	int rc;

	if (enter_domain(dom, "checkpoint-define", "", true, false) == -1)
		return (NULL);
	if ((flags & VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE) == 0)
		wrong("a checkpoint was made without a backup");
	if ((rc = record_checkpoint(xml, false, (flags & VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE) != 0, &c)) == 0)
		cp = new_checkpoint(dom, c->name);
	leave("checkpoint-define", "", true, rc);
	return (cp);
}

static void
check_deletion(const struct model_checkpoint *c)
{
	char head[160];

	if (fake->backup_job || model_in_call())
		wrong("checkpoint %u was deleted while libvirt had a backup job", c->number);
	if (strncmp(c->name, "openvirt-backup.j.", 18) != 0)
		wrong("somebody else's checkpoint %s was deleted", c->name);
	host_head(head);
	if (strcmp(c->name, head) == 0)
		wrong("checkpoint %u was deleted, which is the latest point's", c->number);
}

static int
delete_bitmaps(struct model_checkpoint *c)
{
	if (!fake->active)
		return (failed(VIR_ERR_OPERATION_INVALID, "Requested operation is not valid: cannot delete checkpoint for inactive domain"));
	for (int i = 0; i < fake->ndisks; i++)
		if (c->recorded[i] && c->bitmaps[i] == NO_BITMAP)
			return (failed(VIR_ERR_OPERATION_INVALID, "Requested operation is not valid: bitmap '%s' not found in backing chain of '%s'", c->name,
			    fake->disks[i].target));
	for (int i = 0; i < fake->ndisks; i++)
		if (c->recorded[i])
			c->bitmaps[i] = NO_BITMAP;
	return (0);
}

int
virDomainCheckpointDelete(virDomainCheckpointPtr cp, unsigned int flags)
{
	bool only = (flags & VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY) != 0;
	const char *key = only ? "checkpoint-forget" : "checkpoint-delete";
	struct model_checkpoint *c;
	char detail[16];
	int rc;

	model_lock();
	c = model_checkpoint(cp->name);
	snprintf(detail, sizeof(detail), "%u", c != NULL ? c->number : 0);
	model_unlock();
	if (enter_domain(cp->dom, key, detail, true, false) == -1)
		return (-1);
	if ((c = model_checkpoint(cp->name)) == NULL || !c->known)
		rc = failed(VIR_ERR_NO_DOMAIN_CHECKPOINT, "Domain checkpoint not found");
	else {
		check_deletion(c);
		if ((rc = only ? 0 : delete_bitmaps(c)) == 0) {
			c->known = false;
			model_checkpoint_end(c);
		}
	}
	return (leave(key, detail, true, rc));
}

int
virDomainCheckpointFree(virDomainCheckpointPtr cp)
{
	free(cp);
	return (0);
}

int
virDomainListAllCheckpoints(virDomainPtr dom, virDomainCheckpointPtr **all, unsigned int flags)
{
	int n = 0;

	(void)flags;
	if (enter_domain(dom, "checkpoints", "", false, false) == -1)
		return (-1);
	if ((*all = calloc(MODEL_CHECKPOINTS + 1, sizeof(**all))) == NULL)
		abort();
	for (int i = 0; i < MODEL_CHECKPOINTS; i++)
		if (fake->checkpoints[i].known)
			(*all)[n++] = new_checkpoint(dom, fake->checkpoints[i].name);
	return (leave("checkpoints", "", false, n));
}

char *
virDomainBackupGetXMLDesc(virDomainPtr dom, unsigned int flags)
{
	char *xml = NULL;

	(void)flags;
	if (enter_domain(dom, "backup-xml", "", false, true) == -1)
		return (NULL);
	if (fake->backup_job && !model_in_call())
		xml = strdup(fake->backup_xml);
	else
		failed(VIR_ERR_NO_DOMAIN_BACKUP, "Domain backup job id not found: no domain backup job present");
	leave("backup-xml", "", false, 0);
	return (xml);
}

int
virDomainGetJobStats(virDomainPtr dom, int *type, virTypedParameterPtr *params, int *nparams, unsigned int flags)
{
	int operation = model_in_call() ? fake->call : fake->backup_job ? VIR_DOMAIN_JOB_OPERATION_BACKUP : VIR_DOMAIN_JOB_OPERATION_UNKNOWN;

	(void)flags;
	if (enter_domain(dom, "job-stats", "", false, true) == -1)
		return (-1);
	*type = operation != VIR_DOMAIN_JOB_OPERATION_UNKNOWN ? VIR_DOMAIN_JOB_UNBOUNDED : VIR_DOMAIN_JOB_NONE;
	*nparams = *type != VIR_DOMAIN_JOB_NONE;
	if ((*params = calloc(1, sizeof(**params))) == NULL)
		abort();
	snprintf((*params)->field, sizeof((*params)->field), VIR_DOMAIN_JOB_OPERATION);
	(*params)->type = VIR_TYPED_PARAM_INT;
	(*params)->value.i = operation;
	return (leave("job-stats", "", false, 0));
}

int
virTypedParamsGetInt(virTypedParameterPtr params, int nparams, const char *name, int *value)
{
	for (int i = 0; i < nparams; i++)
		if (strcmp(params[i].field, name) == 0) {
			*value = params[i].value.i;
			return (1);
		}
	return (0);
}

void
virTypedParamsFree(virTypedParameterPtr params, int nparams)
{
	(void)nparams;
	free(params);
}

int
virDomainAbortJob(virDomainPtr dom)
{
	int rc = 0;

	if (enter_domain(dom, "abort-job", "", true, true) == -1)
		return (-1);
	if (model_in_call())
		wrong("a job was aborted while libvirt began it");
	if (!fake->backup_job)
		rc = failed(VIR_ERR_OPERATION_INVALID, "Requested operation is not valid: no job is active on the domain");
	else if (strstr(fake->backup_xml, "mode='push'") != NULL)
		wrong("somebody else's backup job was aborted");
	fake->backup_job = false;
	return (leave("abort-job", "", true, rc));
}

static void
snapshot_disk(xmlNodePtr n, const char *name)
{
	struct model_disk *d = model_find(name);
	xmlChar *snapshot = xmlGetProp(n, (const xmlChar *)"snapshot"), *file = xmlGetProp(xml_first(n, "source"), (const xmlChar *)"file");

	if (d != NULL && snapshot != NULL && file != NULL && strcmp((const char *)snapshot, "external") == 0) {
		snprintf(d->overlay, sizeof(d->overlay), "%s", (const char *)file);
		create(NULL, d->overlay);
		d->live = ON_OVERLAY;
		if (fake->persistent)
			d->config = ON_OVERLAY;
		d->overlay_age = d->base_age + 1;
	}
	xmlFree(snapshot);
	xmlFree(file);
}

virDomainSnapshotPtr
virDomainSnapshotCreateXML(virDomainPtr dom, const char *xml, unsigned int flags)
{
	static struct _virDomainSnapshot snapshot;
	xmlDocPtr doc;
	int rc;

	if (enter_domain(dom, "snapshot", "", true, true) == -1)
		return (NULL);
	fake->call = VIR_DOMAIN_JOB_OPERATION_SNAPSHOT;
	if ((flags & VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC) == 0 || (flags & VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA) == 0)
		wrong("a snapshot that is not atomic, or has metadata");
	if ((rc = is_free()) == 0) {
		if ((doc = xmlReadMemory(xml, (int)strlen(xml), NULL, NULL, XML_PARSE_NONET)) == NULL)
			rc = failed(VIR_ERR_XML_DETAIL, "(domain_snapshot) is not well formed");
		else {
			each_attribute(xmlDocGetRootElement(doc), "disk", "name", snapshot_disk);
			xmlFreeDoc(doc);
		}
	}
	rc = leave("snapshot", "", true, rc);
	return (rc == 0 ? &snapshot : NULL);
}

int
virDomainSnapshotFree(virDomainSnapshotPtr snapshot)
{
	(void)snapshot;
	return (0);
}

int
virDomainBlockCommit(virDomainPtr dom, const char *disk, const char *base, const char *top, unsigned long bandwidth, unsigned int flags)
{
	struct model_disk *d;
	int rc = 0;

	(void)base;
	(void)top;
	(void)bandwidth;
	if (enter_domain(dom, "commit", disk, true, true) == -1)
		return (-1);
	if (flags != (VIR_DOMAIN_BLOCK_COMMIT_SHALLOW | VIR_DOMAIN_BLOCK_COMMIT_ACTIVE))
		wrong("%s: a commit that is not shallow and active", disk);
	if ((d = model_find(disk)) == NULL || d->live == ON_NOTHING)
		rc = failed(VIR_ERR_INVALID_ARG, "invalid argument: disk '%s' not found in domain", disk);
	else if (d->live != ON_OVERLAY || d->job != JOB_NONE)
		rc = failed(VIR_ERR_OPERATION_INVALID, "Requested operation is not valid: disk '%s' cannot be committed now", disk);
	else {
		d->job = JOB_COMMIT;
		d->polls = 0;
		d->ready = false;
	}
	return (leave("commit", disk, true, rc));
}

static int
pivot(struct model_disk *d)
{
	if (d->job == JOB_SOMEBODYS_COPY) {
		wrong("%s: somebody else's block job was pivoted", d->target);
		return (0);
	}
	if (!d->ready || fake->refused_pivots > 0) {
		fake->refused_pivots -= fake->refused_pivots > 0;
		return (failed(VIR_ERR_BLOCK_COPY_ACTIVE, "block copy still active: disk '%s' not ready for pivot yet", d->target));
	}
	model_commit(d);
	d->job = JOB_NONE;
	d->ready = false;
	d->live = ON_BASE;
	if (fake->persistent && !fake->config_lags && d->config == ON_OVERLAY)
		d->config = ON_BASE;
	d->base_age++;
	return (0);
}

int
virDomainBlockJobAbort(virDomainPtr dom, const char *disk, unsigned int flags)
{
	const char *key = (flags & VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT) != 0 ? "pivot" : "cancel";
	struct model_disk *d = model_find(disk);
	int rc = 0;

	if (enter_domain(dom, key, disk, true, true) == -1)
		return (-1);
	if (d == NULL || d->job == JOB_NONE)
		rc = failed(VIR_ERR_INVALID_ARG, "invalid argument: no block job on disk '%s'", disk);
	else if ((flags & VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT) != 0)
		rc = pivot(d);
	else {
		if (d->job == JOB_SOMEBODYS_COPY)
			wrong("%s: somebody else's block job was cancelled", d->target);
		d->job = JOB_NONE;
		d->ready = false;
	}
	return (leave(key, disk, true, rc));
}

int
virDomainGetBlockJobInfo(virDomainPtr dom, const char *disk, virDomainBlockJobInfoPtr info, unsigned int flags)
{
	const struct model_disk *d = model_find(disk);
	int rc = 0;

	(void)flags;
	if (enter_domain(dom, "block-job", disk, false, true) == -1)
		return (-1);
	memset(info, 0, sizeof(*info));
	if (d != NULL && d->job != JOB_NONE) {
		info->type = d->job == JOB_COMMIT ? VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT : VIR_DOMAIN_BLOCK_JOB_TYPE_COPY;
		info->cur = d->ready ? 1000 : 1;
		info->end = 1000;
		rc = 1;
	}
	return (leave("block-job", disk, false, rc));
}
