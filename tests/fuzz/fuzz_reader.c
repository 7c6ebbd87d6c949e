/* The reader on arbitrary bytes: everything that it accepts as one of the three messages is walked, as decode does.
 *
 * The message ends where its allocation ends, so a read behind it is a report of AddressSanitizer; the last byte of
 * the input moves its start through all alignments, for UndefinedBehaviorSanitizer to watch, and chooses the limits. */
#include <stdlib.h>

#include "reader.h"

static const tw_limits usual = {
    .max_nbytes = 0x7FFFFFFF, .max_tensors = 65536, .max_ndim = 32, .max_strings = 10000000};
static const tw_limits tight = {.max_nbytes = 1000, .max_tensors = 3, .max_ndim = 2, .max_strings = 4};

typedef struct {
    const tw_limits *limits;
    uint64_t left; /* bytes and parts that may still be looked at: shared parts would take forever otherwise */
    uint8_t sum;
} walk;

static bool spend(walk *w, uint64_t n)
{
    if (n > w->left)
        return false;
    w->left -= n;
    return true;
}

static void require(bool holds)
{
    if (!holds)
        abort();
}

/* A refusal says what, and where in the message. */
static bool refused(tw_status status, const tw_fault *fault, size_t size)
{
    if (status)
        require(fault->status == status && fault->field && fault->offset <= size);
    return status != TW_OK;
}

static void touch(walk *w, const void *data, uint64_t n)
{
    const uint8_t *bytes = data;
    if (!spend(w, n))
        return;
    for (uint64_t i = 0; i < n; i++)
        w->sum ^= bytes[i];
}

static void touch_text(walk *w, tw_text text)
{
    require(text.data || !text.size);
    touch(w, text.data, text.size);
}

static bool walk_texts(walk *w, tw_vector texts)
{
    tw_text text;
    tw_fault fault;
    for (uint32_t i = 0; i < texts.count && spend(w, 1); i++) {
        if (refused(tw_vector_text(&texts, i, "string", &text, &fault), &fault, texts.in.size))
            return false;
        touch_text(w, text);
    }
    return true;
}

static bool walk_tensors(walk *w, tw_vector tensors)
{
    tw_tensor tensor;
    tw_fault fault;
    for (uint32_t i = 0; i < tensors.count && spend(w, 8); i++) {
        if (refused(tw_read_tensor(&tensors, i, w->limits, &tensor, &fault), &fault, tensors.in.size))
            return false;
        uint64_t count = 1;
        for (uint32_t k = 0; k < tensor.ndim; k++) {
            require(tensor.ndim <= w->limits->max_ndim && tensor.shape[k] >= 0);
            count *= (uint64_t)tensor.shape[k];
        }
        require(count == tensor.count);
        if (tensor.dtype == TW_STRING) {
            require(tensor.strings.count == count);
            if (!walk_texts(w, tensor.strings))
                return false;
        } else {
            require(tensor.nbytes == count * tw_itemsize(tensor.dtype));
            if (tensor.nbytes)
                w->sum ^= (uint8_t)(tensor.data[0] ^ tensor.data[tensor.nbytes - 1]);
        }
    }
    return true;
}

static void walk_request(walk *w, tw_bytes in)
{
    tw_request request;
    tw_fault fault;
    if (refused(tw_read_request(in, w->limits, &request, &fault), &fault, in.size) || request.kind != TW_INFER_REQUEST)
        return;
    const tw_text texts[] = {request.config, request.model_name, request.model_label, request.signature,
                             request.request_id};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        touch_text(w, texts[i]);
    if (walk_texts(w, request.input_names) && walk_tensors(w, request.input_tensors))
        walk_texts(w, request.output_names);
}

static void walk_response(walk *w, tw_bytes in)
{
    tw_response response;
    tw_error error;
    tw_fault fault;
    if (refused(tw_read_response(in, w->limits, &response, &fault), &fault, in.size) ||
        !walk_texts(w, response.output_names) || !walk_tensors(w, response.output_tensors))
        return;
    for (uint32_t i = 0; i < response.errors.count && spend(w, 1); i++) {
        if (refused(tw_read_error(&response.errors, i, &error, &fault), &fault, in.size))
            return;
        touch_text(w, error.message);
        w->sum ^= (uint8_t)error.code;
    }
}

static void walk_specs(walk *w, tw_vector specs)
{
    tw_spec spec;
    tw_fault fault;
    for (uint32_t i = 0; i < specs.count && spend(w, 8); i++) {
        if (refused(tw_read_spec(&specs, i, w->limits, &spec, &fault), &fault, specs.in.size))
            return;
        touch_text(w, spec.name);
        touch_text(w, spec.description);
        for (uint32_t k = 0; k < spec.ndim; k++)
            require(spec.shape[k] >= -1);
        require(spec.dtype < TW_DTYPE_COUNT);
    }
}

static void walk_metadata(walk *w, tw_bytes in)
{
    tw_metadata metadata;
    tw_fault fault;
    if (refused(tw_read_metadata(in, w->limits, &metadata, &fault), &fault, in.size))
        return;
    const tw_text texts[] = {metadata.name, metadata.version, metadata.server, metadata.description};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        touch_text(w, texts[i]);
    walk_specs(w, metadata.inputs);
    walk_specs(w, metadata.outputs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const roots[])(walk *, tw_bytes) = {walk_request, walk_response, walk_metadata};
    size_t shift = size ? data[size - 1] % 8u : 0;
    uint8_t *block = malloc(shift + size + !(shift + size));
    uint8_t sum = 0;
    if (!block)
        return 0;
    if (size)
        memcpy(block + shift, data, size);
    for (size_t i = 0; i < sizeof roots / sizeof roots[0]; i++) {
        walk w = {.limits = size && data[size - 1] & 8 ? &tight : &usual, .left = 4 * (uint64_t)size + 65536};
        roots[i](&w, (tw_bytes){block + shift, size});
        sum ^= w.sum;
    }
    *(volatile uint8_t *)&sum = sum;
    free(block);
    return 0;
}
