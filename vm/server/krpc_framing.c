// SPDX-License-Identifier: GPL-2.0-only
/* Headers of answers, as they are described. */
#define _GNU_SOURCE
#include "krpc.h"

static uint64_t number(const struct pcs_krpc_framing *f, struct pcs_krpc_field field,
		       const uint8_t *header)
{
	uint64_t value = 0;

	for (unsigned int i = 0; i < field.size; i++) {
		unsigned int at = f->flags & PCS_KRPC_BIG_ENDIAN ? i : field.size - 1 - i;

		value = value << 8 | header[field.offset + at];
	}
	return value;
}

void framing_parse(const struct pcs_krpc_framing *f, const uint8_t *header, struct answer *a)
{
	uint64_t length = number(f, f->length, header);

	*a = (struct answer){
		.cookie = number(f, f->cookie, header),
		.status = number(f, f->status, header),
		.has_length = f->length.size,
	};
	if (f->flags & PCS_KRPC_LENGTH_HAS_HEADER) {
		a->wrong = length < f->hdr_len;
		length -= f->hdr_len;
	}
	a->wrong |= length > PCS_KRPC_MAX_PAYLOAD ||
		    (f->magic.size && number(f, f->magic, header) != f->magic_value);
	a->length = length;
}

uint32_t framing_padding(const struct pcs_krpc_framing *f, uint32_t length)
{
	return f->flags & PCS_KRPC_PADDED ? -length & (PCS_KRPC_MSG_ALIGNMENT - 1) : 0;
}
