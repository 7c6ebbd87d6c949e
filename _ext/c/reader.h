/* The messages of schema/graphpipe.fbs, verified and located in place: nothing is copied or allocated.
 *
 * Field ids follow the order of the fields in the schema. Every function checks what it hands out; a caller that
 * walks all parts before it shows any has verified the whole message. */
#ifndef TW_READER_H
#define TW_READER_H

#include "cursor.h"
#include "dtypes.h"

enum { TW_MAX_NDIM = 64 }; /* numpy's own NPY_MAXDIMS */

typedef struct {
    uint64_t max_nbytes;  /* bytes of a message */
    uint32_t max_tensors; /* tensors (or metadata entries, or errors) of a message */
    uint32_t max_ndim;    /* dimensions of a tensor, at most TW_MAX_NDIM */
    uint64_t max_strings; /* strings of all kinds in a message */
} tw_limits;

typedef struct {
    uint8_t dtype;
    uint32_t ndim;
    int64_t shape[TW_MAX_NDIM];
    uint64_t count;     /* elements */
    const uint8_t *data;
    uint64_t nbytes;
    tw_vector strings;  /* String tensors: `count` entries */
    uint64_t offset;    /* of the data or of the strings vector; without one, of the table */
} tw_tensor;

typedef enum { TW_INFER_REQUEST = 1, TW_METADATA_REQUEST = 2 } tw_request_kind;

typedef struct {
    tw_request_kind kind; /* the rest is only set for TW_INFER_REQUEST */
    tw_text config;
    tw_vector input_names;
    tw_vector input_tensors;
    tw_vector output_names;
    tw_text model_name;
    int64_t model_version;
    tw_text model_label;
    tw_text signature;
    tw_text request_id;
    int64_t deadline_ms;
} tw_request;

typedef struct {
    tw_vector output_tensors;
    tw_vector errors;
    tw_vector output_names;
} tw_response;

typedef struct {
    int64_t code;
    tw_text message;
} tw_error;

typedef struct {
    tw_text name;
    tw_text version;
    tw_text server;
    tw_text description;
    tw_vector inputs;
    tw_vector outputs;
} tw_metadata;

typedef struct {
    tw_text name;
    tw_text description;
    uint8_t dtype;
    uint32_t ndim;
    int64_t shape[TW_MAX_NDIM];
} tw_spec;

tw_status tw_read_request(tw_bytes in, const tw_limits *limits, tw_request *out, tw_fault *fault);
tw_status tw_read_response(tw_bytes in, const tw_limits *limits, tw_response *out, tw_fault *fault);
tw_status tw_read_metadata(tw_bytes in, const tw_limits *limits, tw_metadata *out, tw_fault *fault);

/* Entry `i` of the vectors above. On a fault `out` keeps what was read so far (dtype and shape for the message). */
tw_status tw_read_tensor(const tw_vector *tensors, uint32_t i, const tw_limits *limits, tw_tensor *out,
                         tw_fault *fault);
tw_status tw_read_error(const tw_vector *errors, uint32_t i, tw_error *out, tw_fault *fault);
tw_status tw_read_spec(const tw_vector *specs, uint32_t i, const tw_limits *limits, tw_spec *out, tw_fault *fault);

#endif
