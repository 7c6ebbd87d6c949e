/* Checked access to a flatbuffer: no byte is read before its place was compared with the end.
 *
 * Comparisons have the form `n > size - pos` with pos <= size known, so they cannot overflow. Integers are read by
 * memcpy: any alignment is accepted. Format: flatbuffers' "internals" page (tables, vtables, vectors, uoffsets). */
#ifndef TW_CURSOR_H
#define TW_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "fault.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "tensorwire's wire format is little-endian; this build is not"
#endif

typedef struct {
    const uint8_t *base;
    size_t size;
} tw_bytes;

typedef struct {
    tw_bytes in;
    size_t pos;      /* start of the table */
    size_t vtable;   /* start of its vtable */
    uint16_t vsize;  /* bytes of the vtable */
    uint16_t size;   /* bytes of the table, as its vtable says; checked to fit */
} tw_table;

typedef struct {
    tw_bytes in;
    size_t pos;      /* first element */
    uint32_t count;
} tw_vector;         /* an absent vector is {in, 0, 0} */

typedef struct {
    const char *data;
    uint32_t size;
    uint64_t offset;
} tw_text;           /* an absent string is {NULL, 0, 0} */

static inline bool tw_fits(tw_bytes in, size_t pos, size_t n)
{
    return pos <= in.size && n <= in.size - pos;
}

/* The loads below are only called on places that tw_fits has accepted. */
static inline uint16_t tw_load16(tw_bytes in, size_t pos)
{
    uint16_t v;
    memcpy(&v, in.base + pos, sizeof v);
    return v;
}

static inline uint32_t tw_load32(tw_bytes in, size_t pos)
{
    uint32_t v;
    memcpy(&v, in.base + pos, sizeof v);
    return v;
}

static inline int64_t tw_load64(tw_bytes in, size_t pos)
{
    int64_t v;
    memcpy(&v, in.base + pos, sizeof v);
    return v;
}

tw_status tw_table_at(tw_bytes in, size_t pos, const char *field, tw_table *table, tw_fault *fault);
tw_status tw_root(tw_bytes in, tw_table *table, tw_fault *fault);

/* Position of field `id` of `n` bytes; 0 when absent (no field can stand at 0). */
tw_status tw_field(const tw_table *table, unsigned id, size_t n, const char *field, size_t *pos, tw_fault *fault);

tw_status tw_field_u8(const tw_table *table, unsigned id, const char *field, uint8_t *value, tw_fault *fault);
tw_status tw_field_i64(const tw_table *table, unsigned id, const char *field, int64_t *value, tw_fault *fault);
tw_status tw_field_text(const tw_table *table, unsigned id, const char *field, tw_text *text, tw_fault *fault);
tw_status tw_field_vector(const tw_table *table, unsigned id, size_t itemsize, const char *field, tw_vector *vector,
                          tw_fault *fault);
tw_status tw_field_table(const tw_table *table, unsigned id, const char *field, bool *present, tw_table *child,
                         tw_fault *fault);

/* Element `i` (< vector->count) of a vector of offsets. */
tw_status tw_vector_table(const tw_vector *vector, uint32_t i, const char *field, tw_table *table, tw_fault *fault);
tw_status tw_vector_text(const tw_vector *vector, uint32_t i, const char *field, tw_text *text, tw_fault *fault);

#endif
