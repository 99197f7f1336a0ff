/*
 * libvirt_api.h - the few functions of libvirt that are needed, found in libvirt.so.0 when they are: virt-restore is not linked to it, so that it
 * runs where there is none.  Names and values are those of libvirt's public API, which stays as it is.
 */
#ifndef OVB_LIBVIRT_API_H
#define OVB_LIBVIRT_API_H

#include "base/err.h"

/* Flags of virDomainGetXMLDesc(), virDomainUndefineFlags() and virDomainCheckpointDelete(). */
enum { XML_SECURE = 1, XML_INACTIVE = 2 };
enum { UNDEFINE_SNAPSHOTS_METADATA = 2, UNDEFINE_KEEP_NVRAM = 8, UNDEFINE_CHECKPOINTS_METADATA = 16, UNDEFINE_KEEP_TPM = 64 };
enum { CHECKPOINT_METADATA_ONLY = 2 };
#define LIBVIRT_UUID_LEN	37u

struct libvirt_api {
	int		(*initialize)(void);
	void		(*set_error_func)(void *, void (*)(void *, void *));
	const char	*(*last_error)(void);
	void		*(*open)(const char *uri);
	int		(*close)(void *conn);
	void		*(*by_name)(void *conn, const char *name);
	void		*(*by_uuid)(void *conn, const char *uuid);
	const char	*(*name)(void *dom);
	int		(*uuid)(void *dom, char out[LIBVIRT_UUID_LEN]);
	int		(*is_active)(void *dom);
	int		(*has_saved_state)(void *dom, unsigned int flags);
	char		*(*xml)(void *dom, unsigned int flags);
	void		*(*define)(void *conn, const char *xml);
	int		(*undefine)(void *dom, unsigned int flags);
	int		(*start)(void *dom);
	int		(*free_domain)(void *dom);
	/* Since libvirt 5.6; NULL without. */
	int		(*checkpoints)(void *dom, void ***out, unsigned int flags);
	int		(*checkpoint_delete)(void *checkpoint, unsigned int flags);
	int		(*checkpoint_free)(void *checkpoint);
};

/** libvirt_api_load(api, err): Fails: -1 when there is no libvirt.so.0, or it lacks a function. */
int libvirt_api_load(struct libvirt_api *api, struct err *err);

#endif
