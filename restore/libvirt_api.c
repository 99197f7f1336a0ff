#include "libvirt_api.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define LIBRARY	"libvirt.so.0"

static const struct symbol {
	const char	*name;
	size_t		 at;		/* in struct libvirt_api */
	bool		 optional;
} symbols[] = {
	{ "virInitialize", offsetof(struct libvirt_api, initialize), false },
	{ "virSetErrorFunc", offsetof(struct libvirt_api, set_error_func), false },
	{ "virGetLastErrorMessage", offsetof(struct libvirt_api, last_error), false },
	{ "virConnectOpen", offsetof(struct libvirt_api, open), false },
	{ "virConnectClose", offsetof(struct libvirt_api, close), false },
	{ "virDomainLookupByName", offsetof(struct libvirt_api, by_name), false },
	{ "virDomainLookupByUUIDString", offsetof(struct libvirt_api, by_uuid), false },
	{ "virDomainGetName", offsetof(struct libvirt_api, name), false },
	{ "virDomainGetUUIDString", offsetof(struct libvirt_api, uuid), false },
	{ "virDomainIsActive", offsetof(struct libvirt_api, is_active), false },
	{ "virDomainHasManagedSaveImage", offsetof(struct libvirt_api, has_saved_state), false },
	{ "virDomainGetXMLDesc", offsetof(struct libvirt_api, xml), false },
	{ "virDomainDefineXML", offsetof(struct libvirt_api, define), false },
	{ "virDomainUndefineFlags", offsetof(struct libvirt_api, undefine), false },
	{ "virDomainCreate", offsetof(struct libvirt_api, start), false },
	{ "virDomainFree", offsetof(struct libvirt_api, free_domain), false },
	{ "virDomainListAllCheckpoints", offsetof(struct libvirt_api, checkpoints), true },
	{ "virDomainCheckpointDelete", offsetof(struct libvirt_api, checkpoint_delete), true },
	{ "virDomainCheckpointFree", offsetof(struct libvirt_api, checkpoint_free), true },
};

int
libvirt_api_load(struct libvirt_api *api, struct err *err)
{
	/* Never closed: libvirt cannot be unloaded. */
	void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL), *f;

	memset(api, 0, sizeof(*api));
	if (library == NULL)
		return (err_set(err, 0, "there is no libvirt here (%s)", dlerror()));
	for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		if ((f = dlsym(library, symbols[i].name)) == NULL && !symbols[i].optional)
			return (err_set(err, 0, "%s has no %s", LIBRARY, symbols[i].name));
		memcpy((char *)api + symbols[i].at, &f, sizeof(f));
	}
	return (0);
}
