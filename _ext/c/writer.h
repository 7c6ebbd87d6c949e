/* Builds the header of a message: everything but the payloads of the larger tensors, which stay where they are.
 *
 * Each tw_write_* runs twice on the same parts: with out->base NULL it only measures; with a buffer of
 * tw_header_size() bytes it writes. Tables come first, then the payloads in order, each on a 64-byte boundary of the
 * message with its length in the four bytes before it. No allocation; the parts are only read, but for the two
 * fields that the writer fills. Positions are positions in the message, payloads included. */
#ifndef TW_WRITER_H
#define TW_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dtypes.h"
#include "fault.h"

enum { TW_PAYLOAD_ALIGN = 64, TW_SHARED_VTABLES = 4 };

typedef struct {
    uint8_t *base;      /* NULL: measure only */
    uint64_t pos;       /* bytes of the message so far */
    uint64_t external;  /* of these, bytes of payloads that are not in the header */
    uint64_t vtables[TW_SHARED_VTABLES];
} tw_out;

typedef struct {
    const char *data;
    size_t size;
} tw_chars;

typedef struct {
    uint8_t dtype;
    bool inlined;           /* copy the payload into the header */
    uint32_t ndim;
    const int64_t *shape;
    const void *data;       /* read only when inlined */
    uint64_t nbytes;
    const tw_chars *strings; /* String tensors */
    uint64_t count;
    uint64_t site;          /* filled: where the offset of the payload stands */
    uint64_t header_end;    /* filled: header bytes before the payload */
} tw_part;

typedef struct {
    tw_part *items;
    uint32_t count;
} tw_parts;

typedef struct {
    const tw_chars *items;
    uint32_t count;
} tw_names;

typedef struct {
    tw_chars config, model_name, model_label, signature, request_id;
    int64_t model_version, deadline_ms;
    tw_names input_names, output_names;
    tw_parts inputs;
} tw_request_parts;

typedef struct {
    int64_t code;
    tw_chars message;
} tw_error_part;

typedef struct {
    tw_names output_names;
    tw_parts outputs;
    const tw_error_part *errors;
    uint32_t error_count;
} tw_response_parts;

typedef struct {
    tw_chars name, description;
    uint8_t dtype;
    uint32_t ndim;
    const int64_t *shape;
} tw_spec_part;

typedef struct {
    tw_chars name, version, server, description;
    const tw_spec_part *inputs;
    const tw_spec_part *outputs;
    uint32_t input_count, output_count;
} tw_metadata_parts;

tw_status tw_write_request(tw_out *out, tw_request_parts *parts, tw_fault *fault);
tw_status tw_write_metadata_request(tw_out *out, tw_fault *fault);
tw_status tw_write_response(tw_out *out, tw_response_parts *parts, tw_fault *fault);
tw_status tw_write_metadata(tw_out *out, tw_metadata_parts *parts, tw_fault *fault);

static inline uint64_t tw_header_size(const tw_out *out)
{
    return out->pos - out->external;
}

#endif
