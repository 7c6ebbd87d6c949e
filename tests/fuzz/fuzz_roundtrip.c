/* The writer on messages made of arbitrary bytes, and the reader on what it wrote: every part comes back.
 *
 * The header is written twice over different garbage, so a byte that the writer leaves as it was is found; payloads
 * that stay outside are put where a Frame has them. */
#include <stdlib.h>

#include "reader.h"
#include "writer.h"

enum { MOST_PARTS = 6, MOST_NDIM = 32, MOST_STRINGS = 24, MOST_PAYLOAD = 1024 };

static const tw_limits limits = {
    .max_nbytes = 0x7FFFFFFF, .max_tensors = 65536, .max_ndim = MOST_NDIM, .max_strings = 10000000};

/* Everything a message refers to; `in` is what is left of the fuzzer's input. */
typedef struct {
    tw_bytes in;
    bool huge; /* payloads of any size that do not exist: to be measured only */
    tw_part parts[MOST_PARTS];
    int64_t shapes[2 * MOST_PARTS][MOST_NDIM];
    tw_chars strings[MOST_PARTS][MOST_STRINGS];
    uint8_t payloads[MOST_PARTS][MOST_PAYLOAD];
    tw_chars names[2][MOST_PARTS];
    tw_error_part errors[MOST_PARTS];
    tw_spec_part specs[2 * MOST_PARTS];
} maker;

typedef union {
    tw_request_parts request;
    tw_response_parts response;
    tw_metadata_parts metadata;
} any_parts;

typedef enum { REQUEST, RESPONSE, METADATA, METADATA_REQUEST, KINDS } root;

static void require(bool holds)
{
    if (!holds)
        abort();
}

/* --- making ---------------------------------------------------------------------------------------------------- */

static uint64_t take(maker *m, size_t n)
{
    uint64_t value = 0;
    if (n > m->in.size)
        n = m->in.size;
    if (n)
        memcpy(&value, m->in.base, n);
    m->in.base += n;
    m->in.size -= n;
    return value;
}

static uint32_t take_up_to(maker *m, uint32_t most)
{
    return (uint32_t)take(m, 1) % (most + 1);
}

static tw_chars take_text(maker *m)
{
    size_t n = take_up_to(m, 20);
    tw_chars text = {(const char *)m->in.base, n < m->in.size ? n : m->in.size};
    m->in.base += text.size;
    m->in.size -= text.size;
    return text;
}

static tw_names take_names(maker *m, tw_chars *names, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        names[i] = take_text(m);
    return (tw_names){names, count};
}

/* A shape of at most `room` elements. */
static uint64_t take_shape(maker *m, int64_t *shape, uint32_t *ndim, uint64_t room)
{
    uint64_t count = 1;
    *ndim = take_up_to(m, 5);
    if (*ndim == 5)
        *ndim = MOST_NDIM;
    for (uint32_t i = 0; i < *ndim; i++) {
        uint64_t dim = *ndim == MOST_NDIM ? 1 + (i == 0) : take_up_to(m, 9);
        if (dim && count > room / dim)
            dim = 1;
        shape[i] = (int64_t)dim;
        count *= dim;
    }
    return count;
}

static void take_part(maker *m, uint32_t i)
{
    tw_part *part = &m->parts[i];
    part->dtype = (uint8_t)(1 + take_up_to(m, TW_DTYPE_COUNT - 2));
    part->shape = m->shapes[i];
    if (part->dtype == TW_STRING) {
        part->count = take_shape(m, m->shapes[i], &part->ndim, MOST_STRINGS);
        part->strings = m->strings[i];
        for (uint64_t k = 0; k < part->count; k++)
            m->strings[i][k] = take_text(m);
        return;
    }
    uint32_t itemsize = tw_itemsize(part->dtype);
    part->nbytes = itemsize * take_shape(m, m->shapes[i], &part->ndim, MOST_PAYLOAD / itemsize);
    part->inlined = !m->huge && take_up_to(m, 1);
    part->data = m->payloads[i];
    if (m->huge)
        part->nbytes = take(m, 5);
    uint8_t seed = (uint8_t)take(m, 1);
    for (uint64_t k = 0; k < part->nbytes && k < MOST_PAYLOAD; k++)
        m->payloads[i][k] = (uint8_t)(seed + k * 7);
}

static tw_parts take_parts(maker *m)
{
    tw_parts parts = {m->parts, take_up_to(m, MOST_PARTS)};
    for (uint32_t i = 0; i < parts.count; i++)
        take_part(m, i);
    return parts;
}

static void take_specs(maker *m, uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++) {
        tw_spec_part *spec = &m->specs[i];
        spec->name = take_text(m);
        spec->description = take_text(m);
        spec->dtype = (uint8_t)take_up_to(m, TW_DTYPE_COUNT - 1);
        spec->shape = m->shapes[i];
        take_shape(m, m->shapes[i], &spec->ndim, INT64_MAX);
        for (uint32_t k = 0; k < spec->ndim; k++)
            m->shapes[i][k] -= m->shapes[i][k] == 9 ? 10 : 0;
    }
}

static void take_message(maker *m, root which, any_parts *p)
{
    if (which == REQUEST) {
        tw_request_parts *r = &p->request;
        r->inputs = take_parts(m);
        r->input_names = take_names(m, m->names[0], take_up_to(m, 1) ? r->inputs.count : 0);
        r->output_names = take_names(m, m->names[1], take_up_to(m, MOST_PARTS));
        r->config = take_text(m);
        r->model_name = take_text(m);
        r->model_label = take_text(m);
        r->signature = take_text(m);
        r->request_id = take_text(m);
        r->model_version = (int64_t)take(m, 8);
        r->deadline_ms = (int64_t)take(m, 8);
    } else if (which == RESPONSE) {
        tw_response_parts *r = &p->response;
        r->outputs = take_parts(m);
        r->output_names = take_names(m, m->names[0], take_up_to(m, 1) ? r->outputs.count : 0);
        r->errors = m->errors;
        r->error_count = take_up_to(m, MOST_PARTS);
        for (uint32_t i = 0; i < r->error_count; i++)
            m->errors[i] = (tw_error_part){(int64_t)take(m, 8), take_text(m)};
    } else if (which == METADATA) {
        tw_metadata_parts *r = &p->metadata;
        r->name = take_text(m);
        r->version = take_text(m);
        r->server = take_text(m);
        r->description = take_text(m);
        r->input_count = take_up_to(m, MOST_PARTS);
        r->output_count = take_up_to(m, MOST_PARTS);
        r->inputs = m->specs;
        r->outputs = m->specs + MOST_PARTS;
        take_specs(m, 0, r->input_count);
        take_specs(m, MOST_PARTS, r->output_count);
    }
}

/* --- writing --------------------------------------------------------------------------------------------------- */

static tw_status write_once(root which, any_parts *p, tw_out *out, tw_fault *fault)
{
    switch (which) {
    case REQUEST:
        return tw_write_request(out, &p->request, fault);
    case RESPONSE:
        return tw_write_response(out, &p->response, fault);
    case METADATA:
        return tw_write_metadata(out, &p->metadata, fault);
    default:
        return tw_write_metadata_request(out, fault);
    }
}

static uint8_t *write_header(root which, any_parts *p, uint64_t size, uint64_t pos, uint8_t garbage)
{
    tw_fault fault;
    tw_out out = {.base = malloc(size)};
    require(out.base != NULL);
    memset(out.base, garbage, size);
    require(write_once(which, p, &out, &fault) == TW_OK && out.pos == pos && tw_header_size(&out) == size);
    return out.base;
}

/* The message in one block, or zero bytes when it may only be measured. */
static tw_bytes write_message(const maker *m, root which, any_parts *p, tw_parts external)
{
    tw_out measured = {0};
    tw_fault fault;
    tw_status status = write_once(which, p, &measured, &fault);
    require(status == (measured.pos >= (uint64_t)1 << 31 ? TW_TOO_LARGE : TW_OK));
    if (m->huge)
        return (tw_bytes){0};
    uint64_t size = tw_header_size(&measured), start = 0, at = 0;
    uint8_t *header = write_header(which, p, size, measured.pos, 0x00);
    uint8_t *again = write_header(which, p, size, measured.pos, 0xFF);
    require(!memcmp(header, again, size));
    uint8_t *message = malloc(measured.pos);
    require(message != NULL);
    for (uint32_t i = 0; i < external.count; i++) {
        const tw_part *part = &external.items[i];
        if (part->dtype == TW_STRING || part->inlined)
            continue;
        require(start < part->header_end && part->header_end <= size);
        memcpy(message + at, header + start, part->header_end - start);
        at += part->header_end - start;
        memcpy(message + at, part->data, part->nbytes);
        at += part->nbytes;
        start = part->header_end;
    }
    memcpy(message + at, header + start, size - start);
    require(at + size - start == measured.pos);
    free(header);
    free(again);
    return (tw_bytes){message, measured.pos};
}

/* --- comparing ------------------------------------------------------------------------------------------------- */

static void same_text(tw_text read, tw_chars written)
{
    require(read.size == written.size && (!read.size || !memcmp(read.data, written.data, read.size)));
    require(!read.data || read.data[read.size] == 0);
}

static void same_texts(tw_vector read, const tw_chars *written, uint64_t count)
{
    tw_text text;
    tw_fault fault;
    require(read.count == count);
    for (uint32_t i = 0; i < read.count; i++) {
        require(tw_vector_text(&read, i, "string", &text, &fault) == TW_OK);
        same_text(text, written[i]);
    }
}

static void same_shape(uint32_t ndim, const int64_t *read, uint32_t expected, const int64_t *written)
{
    require(ndim == expected && !memcmp(read, written, ndim * sizeof *read));
}

static void same_tensors(tw_vector read, tw_parts written)
{
    tw_tensor tensor;
    tw_fault fault;
    require(read.count == written.count);
    for (uint32_t i = 0; i < read.count; i++) {
        const tw_part *part = &written.items[i];
        require(tw_read_tensor(&read, i, &limits, &tensor, &fault) == TW_OK);
        require(tensor.dtype == part->dtype);
        same_shape(tensor.ndim, tensor.shape, part->ndim, part->shape);
        if (part->dtype == TW_STRING) {
            same_texts(tensor.strings, part->strings, part->count);
            continue;
        }
        require(tensor.nbytes == part->nbytes && tensor.offset % TW_PAYLOAD_ALIGN == 0);
        require(!tensor.nbytes || !memcmp(tensor.data, part->data, tensor.nbytes));
    }
}

static void same_specs(tw_vector read, const tw_spec_part *written, uint32_t count)
{
    tw_spec spec;
    tw_fault fault;
    require(read.count == count);
    for (uint32_t i = 0; i < count; i++) {
        require(tw_read_spec(&read, i, &limits, &spec, &fault) == TW_OK);
        same_text(spec.name, written[i].name);
        same_text(spec.description, written[i].description);
        require(spec.dtype == written[i].dtype);
        same_shape(spec.ndim, spec.shape, written[i].ndim, written[i].shape);
    }
}

static void same_request(tw_bytes in, const tw_request_parts *p, tw_request_kind kind)
{
    tw_request read;
    tw_fault fault;
    require(tw_read_request(in, &limits, &read, &fault) == TW_OK && read.kind == kind);
    if (kind == TW_METADATA_REQUEST)
        return;
    same_tensors(read.input_tensors, p->inputs);
    same_texts(read.input_names, p->input_names.items, p->input_names.count);
    same_texts(read.output_names, p->output_names.items, p->output_names.count);
    same_text(read.config, p->config);
    same_text(read.model_name, p->model_name);
    same_text(read.model_label, p->model_label);
    same_text(read.signature, p->signature);
    same_text(read.request_id, p->request_id);
    require(read.model_version == p->model_version && read.deadline_ms == p->deadline_ms);
}

static void same_response(tw_bytes in, const tw_response_parts *p)
{
    tw_response read;
    tw_error error;
    tw_fault fault;
    require(tw_read_response(in, &limits, &read, &fault) == TW_OK);
    same_tensors(read.output_tensors, p->outputs);
    same_texts(read.output_names, p->output_names.items, p->output_names.count);
    require(read.errors.count == p->error_count);
    for (uint32_t i = 0; i < p->error_count; i++) {
        require(tw_read_error(&read.errors, i, &error, &fault) == TW_OK && error.code == p->errors[i].code);
        same_text(error.message, p->errors[i].message);
    }
}

static void same_metadata(tw_bytes in, const tw_metadata_parts *p)
{
    tw_metadata read;
    tw_fault fault;
    require(tw_read_metadata(in, &limits, &read, &fault) == TW_OK);
    same_text(read.name, p->name);
    same_text(read.version, p->version);
    same_text(read.server, p->server);
    same_text(read.description, p->description);
    same_specs(read.inputs, p->inputs, p->input_count);
    same_specs(read.outputs, p->outputs, p->output_count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static maker m; /* large; only what a message fills of it is read */
    any_parts parts;
    memset(m.parts, 0, sizeof m.parts);
    memset(&parts, 0, sizeof parts);
    m.in = (tw_bytes){data, size};
    uint8_t choice = (uint8_t)take(&m, 1);
    root which = (root)(choice % KINDS);
    m.huge = choice >= 240 && which <= RESPONSE;
    take_message(&m, which, &parts);
    tw_parts external = {0};
    if (which == REQUEST)
        external = parts.request.inputs;
    else if (which == RESPONSE)
        external = parts.response.outputs;
    tw_bytes message = write_message(&m, which, &parts, external);
    if (!message.base)
        return 0;
    if (which == RESPONSE)
        same_response(message, &parts.response);
    else if (which == METADATA)
        same_metadata(message, &parts.metadata);
    else
        same_request(message, &parts.request, which == REQUEST ? TW_INFER_REQUEST : TW_METADATA_REQUEST);
    free((void *)message.base);
    return 0;
}
