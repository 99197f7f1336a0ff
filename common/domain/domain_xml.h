/*
 * domain_xml.h - libvirt's domain XML: what a backup must know of it, and what it becomes on another host.
 *
 * All of it is hostile (xml_doc.h holds it to bounds).  Names, UUIDs and targets are checked here; paths are not: what they may name is the
 * caller's to judge.
 */
#ifndef OVB_DOMAIN_XML_H
#define OVB_DOMAIN_XML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define DOMAIN_DISKS_MAX	1024u

/* Every string but target, device, type and format may be NULL. */
struct domain_disk {
	char	*target;		/* vda: neither empty nor with a slash, unique in its domain */
	char	*device;		/* disk, cdrom, floppy, lun */
	char	*type;			/* of the source: file, block, network, volume, dir, nvme, vhostuser ... */
	char	*source;		/* file, dev, or a printable name ("iscsi://host:3260/iqn.../1", "pool/volume") */
	char	*format;		/* driver type; "raw" when it is not given */
	char	*protocol, *name, *host, *port, *socket;	/* network disks, as in the XML: the first host, or its socket */
	bool	 readonly;		/* also any cdrom */
	bool	 transient, shareable;
	bool	 has_mirror, mirror_ready;	/* live: a block job; ready='yes' */
	char	*mirror_source;
	bool	 has_encryption;
	char	*backing;		/* live: the immediate backingStore's source; NULL at the end of the chain */
};

struct domain_desc {
	char			*name, *uuid, *emulator;
	char			*nvram, *loader;	/* paths */
	bool			 has_agent;		/* a channel org.qemu.guest_agent.0 */
	bool			 agent_connected;	/* live: something in the guest has it open */
	bool			 tpm_emulator;
	char			*tpm_version;
	bool			 has_dac;		/* live: the seclabel of model dac; names are resolved */
	uint32_t		 dac_uid, dac_gid;
	struct domain_disk	*disks;
	size_t			 ndisks;
};

#define DOMAIN_DESC_INIT	{ .name = NULL }

/**
 * domain_desc_parse(d, xml, len, err):
 * Describe the domain, live or persistent.  The caller frees ${d}, which is empty on failure.  Threads: any.  Fails: -1 with what is wrong in it.
 */
int domain_desc_parse(struct domain_desc *d, const char *xml, size_t len, struct err *err);
void domain_desc_free(struct domain_desc *d);

/** domain_disk_find(d, target): The disk, or NULL. */
const struct domain_disk *domain_disk_find(const struct domain_desc *d, const char *target);

/** domain_name_check(name, err): Whether libvirt takes ${name} for a domain: UTF-8 without slash and control characters.  Fails: -1. */
int domain_name_check(const char *name, struct err *err);

/** domain_disk_left(disk): Whether a backup leaves the disk out because it holds nothing of the guest's own: read-only, a cdrom, a floppy, or empty. */
bool domain_disk_left(const struct domain_disk *disk);

/* Where a disk is now. */
struct domain_disk_place {
	const char	*target, *path, *format;
	bool		 block;		/* a block device, not a file */
};

struct domain_change {
	const char			*name;		/* NULL: as it was; else the new name, with a new UUID, new MAC addresses, and no <genid> */
	const char			*uuid;		/* with a name: the new UUID as text, or NULL to make one */
	const char			*nvram;		/* its new path, or NULL: as it was */
	const struct domain_disk_place	*places;
	size_t				 nplaces;
	bool				 drop_missing;	/* take out the disks that are not in places, but for those of domain_disk_left() */
};

/**
 * domain_rewrite(xml, len, c, out, err):
 * Append the XML as it can be defined on a new host.  Each disk of ${c}->places becomes a file or a block device with that path and format: what
 * was said of its old source (pool, protocol, hosts, auth, encryption, slices, reservations, backing chain) goes.  What a running domain has of
 * its own goes everywhere: its id, <mirror>, aliases but the user's, labels that were made for it, paths of its sockets and terminals.  All else
 * stays; so does the backing chain of a disk that is left where it is.
 * Fails: -1, ${out} is as it was; also when the target of a place is not in the domain, or twice in ${c}.
 */
int domain_rewrite(const char *xml, size_t len, const struct domain_change *c, struct buf *out, struct err *err);

#endif
