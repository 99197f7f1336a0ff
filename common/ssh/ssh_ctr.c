#include "ssh/ssh_ctr.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <stdint.h>
#include <string.h>

#define NAME		"openvirt-backup"
#define KEY		16u
#define IV		16u
#define AHEAD		4096u		/* bytes of key stream at a time: most of a packet of data is eight of them, a short request wastes little */

struct ctr {
	EVP_CIPHER_CTX	*aes;		/* OpenSSL's own */
	size_t		 used;		/* bytes of ->stream */
	unsigned char	 stream[AHEAD];
};

static void
ctr_free(void *vctx)
{
	struct ctr *c = vctx;

	if (c == NULL)
		return;
	EVP_CIPHER_CTX_free(c->aes);
	OPENSSL_clear_free(c, sizeof(*c));
}

static void *
ctr_new(void *provider)
{
	struct ctr *c = OPENSSL_zalloc(sizeof(*c));
	EVP_CIPHER *own;

	(void)provider;
	if (c == NULL)
		return (NULL);
	c->used = AHEAD;
	own = EVP_CIPHER_fetch(NULL, "AES-128-CTR", "provider=default");
	if (own == NULL || (c->aes = EVP_CIPHER_CTX_new()) == NULL || EVP_EncryptInit_ex2(c->aes, own, NULL, NULL, NULL) != 1) {
		ctr_free(c);
		c = NULL;
	}
	EVP_CIPHER_free(own);
	return (c);
}

static void *
ctr_dup(void *vctx)
{
	const struct ctr *from = vctx;
	struct ctr *c = OPENSSL_memdup(from, sizeof(*from));

	if (c == NULL)
		return (NULL);
	if ((c->aes = EVP_CIPHER_CTX_new()) == NULL || EVP_CIPHER_CTX_copy(c->aes, from->aes) != 1) {
		ctr_free(c);
		return (NULL);
	}
	return (c);
}

/* Both ways are the same. */
static int
ctr_init(void *vctx, const unsigned char *key, size_t keylen, const unsigned char *iv, size_t ivlen, const OSSL_PARAM params[])
{
	struct ctr *c = vctx;

	(void)params;
	if ((key != NULL && keylen != KEY) || (iv != NULL && ivlen != IV))
		return (0);
	c->used = AHEAD;
	return (EVP_EncryptInit_ex2(c->aes, NULL, key, iv, NULL));
}

static int
more(struct ctr *c)
{
	int n;

	memset(c->stream, 0, AHEAD);
	c->used = 0;
	return (EVP_EncryptUpdate(c->aes, c->stream, &n, c->stream, (int)AHEAD) == 1 && n == (int)AHEAD);
}

static int
ctr_cipher(void *vctx, unsigned char *out, size_t *outl, size_t outsize, const unsigned char *in, size_t inl)
{
	struct ctr *c = vctx;
	uint64_t a[2], b[2];
	size_t i = 0;

	if (outsize < inl)
		return (0);
	*outl = inl;
	while (i < inl) {
		if (c->used == AHEAD && !more(c))
			return (0);
		if (inl - i >= sizeof(a) && AHEAD - c->used >= sizeof(a)) {
			memcpy(a, in + i, sizeof(a));
			memcpy(b, c->stream + c->used, sizeof(b));
			a[0] ^= b[0];
			a[1] ^= b[1];
			memcpy(out + i, a, sizeof(a));
			i += sizeof(a);
			c->used += sizeof(a);
		} else {
			out[i] = in[i] ^ c->stream[c->used++];
			i++;
		}
	}
	return (1);
}

static int
ctr_final(void *vctx, unsigned char *out, size_t *outl, size_t outsize)
{
	(void)vctx;
	(void)out;
	(void)outsize;
	*outl = 0;
	return (1);
}

static int
set_size(OSSL_PARAM params[], const char *name, size_t v)
{
	OSSL_PARAM *p = OSSL_PARAM_locate(params, name);

	return (p == NULL || OSSL_PARAM_set_size_t(p, v));
}

static int
ctr_get_params(OSSL_PARAM params[])
{
	OSSL_PARAM *mode = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_MODE);

	return ((mode == NULL || OSSL_PARAM_set_uint(mode, EVP_CIPH_CTR_MODE)) && set_size(params, OSSL_CIPHER_PARAM_KEYLEN, KEY) &&
	    set_size(params, OSSL_CIPHER_PARAM_IVLEN, IV) && set_size(params, OSSL_CIPHER_PARAM_BLOCK_SIZE, 1));
}

static int
ctr_get_ctx_params(void *vctx, OSSL_PARAM params[])
{
	(void)vctx;
	return (set_size(params, OSSL_CIPHER_PARAM_KEYLEN, KEY) && set_size(params, OSSL_CIPHER_PARAM_IVLEN, IV));
}

static const OSSL_PARAM *
ctr_gettable(void *vctx, void *provider)
{
	static const OSSL_PARAM sizes[] = { OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_KEYLEN, NULL), OSSL_PARAM_size_t(OSSL_CIPHER_PARAM_IVLEN, NULL),
	    OSSL_PARAM_END };

	(void)vctx;
	(void)provider;
	return (sizes);
}

#define DISPATCH(number, fn)	{ (number), (void (*)(void))(fn) }

static const OSSL_DISPATCH ctr_functions[] = {
	DISPATCH(OSSL_FUNC_CIPHER_NEWCTX, ctr_new), DISPATCH(OSSL_FUNC_CIPHER_FREECTX, ctr_free), DISPATCH(OSSL_FUNC_CIPHER_DUPCTX, ctr_dup),
	DISPATCH(OSSL_FUNC_CIPHER_ENCRYPT_INIT, ctr_init), DISPATCH(OSSL_FUNC_CIPHER_DECRYPT_INIT, ctr_init),
	DISPATCH(OSSL_FUNC_CIPHER_UPDATE, ctr_cipher), DISPATCH(OSSL_FUNC_CIPHER_CIPHER, ctr_cipher), DISPATCH(OSSL_FUNC_CIPHER_FINAL, ctr_final),
	DISPATCH(OSSL_FUNC_CIPHER_GET_PARAMS, ctr_get_params), DISPATCH(OSSL_FUNC_CIPHER_GET_CTX_PARAMS, ctr_get_ctx_params),
	DISPATCH(OSSL_FUNC_CIPHER_GETTABLE_CTX_PARAMS, ctr_gettable), { 0, NULL }
};

static const OSSL_ALGORITHM *
query(void *provider, int operation, int *no_cache)
{
	static const OSSL_ALGORITHM ciphers[] = { { "AES-128-CTR", "provider=" NAME, ctr_functions, NULL }, { NULL, NULL, NULL, NULL } };

	(void)provider;
	*no_cache = 0;
	return (operation == OSSL_OP_CIPHER ? ciphers : NULL);
}

static int
provide(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *core, const OSSL_DISPATCH **out, void **provider)
{
	static const OSSL_DISPATCH functions[] = { DISPATCH(OSSL_FUNC_PROVIDER_QUERY_OPERATION, query), { 0, NULL } };

	(void)core;
	*out = functions;
	*provider = (void *)(uintptr_t)handle;
	return (1);
}

static OSSL_PROVIDER *loaded;	/* the process's own, as OpenSSL's list of providers is */

static void
unload(void)
{
	OSSL_PROVIDER_unload(loaded);
}

void
ssh_ctr_install(void)
{
	if (!EVP_default_properties_is_fips_enabled(NULL) && OSSL_PROVIDER_add_builtin(NULL, NAME, provide) == 1 &&
	    (loaded = OSSL_PROVIDER_try_load(NULL, NAME, 1)) != NULL && OPENSSL_atexit(unload) == 1)
		EVP_set_default_properties(NULL, "?provider=" NAME);
}
