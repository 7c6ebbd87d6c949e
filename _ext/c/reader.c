#include "reader.h"

#define TRY(call)                 \
    do {                          \
        tw_status status_ = call; \
        if (status_)              \
            return status_;       \
    } while (0)

enum { OFFSETS = 4, LONGS = 8, BYTES = 1 };

static tw_status open_message(tw_bytes in, const tw_limits *limits, tw_table *root, tw_fault *fault)
{
    if (in.size > limits->max_nbytes)
        return tw_fail(fault, TW_LIMIT, "max_nbytes", 0, (int64_t)in.size, (int64_t)limits->max_nbytes);
    return tw_root(in, root, fault);
}

static tw_status under(uint64_t count, uint64_t limit, const char *name, const tw_vector *vector, tw_fault *fault)
{
    if (count > limit)
        return tw_fail(fault, TW_LIMIT, name, vector->pos, (int64_t)count, (int64_t)limit);
    return TW_OK;
}

tw_status tw_read_request(tw_bytes in, const tw_limits *limits, tw_request *out, tw_fault *fault)
{
    tw_table root, req;
    uint8_t kind;
    bool present;
    TRY(open_message(in, limits, &root, fault));
    TRY(tw_field_u8(&root, 0, "req_type", &kind, fault));
    TRY(tw_field_table(&root, 1, "req", &present, &req, fault));
    if ((kind != TW_INFER_REQUEST && kind != TW_METADATA_REQUEST) || !present)
        return tw_fail(fault, TW_UNION, "req_type", root.pos, kind, 0);
    out->kind = (tw_request_kind)kind;
    if (kind == TW_METADATA_REQUEST)
        return TW_OK;
    TRY(tw_field_text(&req, 0, "config", &out->config, fault));
    TRY(tw_field_vector(&req, 1, OFFSETS, "input_names", &out->input_names, fault));
    TRY(tw_field_vector(&req, 2, OFFSETS, "input_tensors", &out->input_tensors, fault));
    TRY(tw_field_vector(&req, 3, OFFSETS, "output_names", &out->output_names, fault));
    TRY(tw_field_text(&req, 4, "model_name", &out->model_name, fault));
    TRY(tw_field_i64(&req, 5, "model_version", &out->model_version, fault));
    TRY(tw_field_text(&req, 6, "model_label", &out->model_label, fault));
    TRY(tw_field_text(&req, 7, "signature", &out->signature, fault));
    TRY(tw_field_text(&req, 8, "request_id", &out->request_id, fault));
    TRY(tw_field_i64(&req, 9, "deadline_ms", &out->deadline_ms, fault));
    TRY(under(out->input_tensors.count, limits->max_tensors, "max_tensors", &out->input_tensors, fault));
    TRY(under(out->output_names.count, limits->max_tensors, "max_tensors", &out->output_names, fault));
    if (out->input_names.count && out->input_names.count != out->input_tensors.count)
        return tw_fail(fault, TW_NAMES, "input_names", out->input_names.pos, out->input_names.count,
                       out->input_tensors.count);
    return TW_OK;
}

tw_status tw_read_response(tw_bytes in, const tw_limits *limits, tw_response *out, tw_fault *fault)
{
    tw_table root;
    TRY(open_message(in, limits, &root, fault));
    TRY(tw_field_vector(&root, 0, OFFSETS, "output_tensors", &out->output_tensors, fault));
    TRY(tw_field_vector(&root, 1, OFFSETS, "errors", &out->errors, fault));
    TRY(tw_field_vector(&root, 2, OFFSETS, "output_names", &out->output_names, fault));
    TRY(under(out->output_tensors.count, limits->max_tensors, "max_tensors", &out->output_tensors, fault));
    TRY(under(out->errors.count, limits->max_tensors, "max_tensors", &out->errors, fault));
    if (out->output_names.count && out->output_names.count != out->output_tensors.count)
        return tw_fail(fault, TW_NAMES, "output_names", out->output_names.pos, out->output_names.count,
                       out->output_tensors.count);
    return TW_OK;
}

tw_status tw_read_metadata(tw_bytes in, const tw_limits *limits, tw_metadata *out, tw_fault *fault)
{
    tw_table root;
    TRY(open_message(in, limits, &root, fault));
    TRY(tw_field_text(&root, 0, "name", &out->name, fault));
    TRY(tw_field_text(&root, 1, "version", &out->version, fault));
    TRY(tw_field_text(&root, 2, "server", &out->server, fault));
    TRY(tw_field_text(&root, 3, "description", &out->description, fault));
    TRY(tw_field_vector(&root, 4, OFFSETS, "inputs", &out->inputs, fault));
    TRY(tw_field_vector(&root, 5, OFFSETS, "outputs", &out->outputs, fault));
    TRY(under(out->inputs.count, limits->max_tensors, "max_tensors", &out->inputs, fault));
    return under(out->outputs.count, limits->max_tensors, "max_tensors", &out->outputs, fault);
}

/* `least` is the smallest dimension allowed: 0 in data, -1 in metadata. */
static tw_status read_shape(const tw_table *table, unsigned id, int64_t least, const tw_limits *limits,
                            uint32_t *ndim, int64_t *shape, tw_fault *fault)
{
    tw_vector dims;
    uint32_t most = limits->max_ndim < TW_MAX_NDIM ? limits->max_ndim : TW_MAX_NDIM;
    *ndim = 0;
    TRY(tw_field_vector(table, id, LONGS, "shape", &dims, fault));
    TRY(under(dims.count, most, "max_ndim", &dims, fault));
    for (uint32_t i = 0; i < dims.count; i++)
        shape[i] = tw_load64(dims.in, dims.pos + LONGS * (size_t)i);
    *ndim = dims.count;
    for (uint32_t i = 0; i < dims.count; i++)
        if (shape[i] < least)
            return tw_fail(fault, TW_DIMENSION, "shape", dims.pos + LONGS * (size_t)i, shape[i], least);
    return TW_OK;
}

/* Elements of a shape, and their bytes. Empty dimensions do not excuse the others: numpy wants the product of the
 * rest to fit as well. */
static tw_status count_elements(tw_tensor *tensor, uint64_t itemsize, uint64_t *nbytes, tw_fault *fault,
                                uint64_t offset)
{
    uint64_t count = 1, room = INT64_MAX / (itemsize ? itemsize : 1);
    bool empty = false;
    for (uint32_t i = 0; i < tensor->ndim; i++) {
        uint64_t dim = (uint64_t)tensor->shape[i];
        if (dim == 0)
            empty = true;
        else if (dim > room / count)
            return tw_fail(fault, TW_OVERFLOW, "shape", offset, 0, 0);
        else
            count *= dim;
    }
    tensor->count = empty ? 0 : count;
    *nbytes = tensor->count * itemsize;
    return TW_OK;
}

tw_status tw_read_tensor(const tw_vector *tensors, uint32_t i, const tw_limits *limits, tw_tensor *out,
                         tw_fault *fault)
{
    tw_table table;
    tw_vector data;
    uint64_t need;
    out->ndim = 0;
    out->dtype = TW_NULL_TYPE;
    TRY(tw_vector_table(tensors, i, "tensor", &table, fault));
    TRY(tw_field_u8(&table, 0, "type", &out->dtype, fault));
    TRY(read_shape(&table, 1, 0, limits, &out->ndim, out->shape, fault));
    TRY(tw_field_vector(&table, 2, BYTES, "data", &data, fault));
    TRY(tw_field_vector(&table, 3, OFFSETS, "string_val", &out->strings, fault));
    if (out->dtype == TW_NULL_TYPE || out->dtype >= TW_DTYPE_COUNT)
        return tw_fail(fault, TW_DTYPE, "type", table.pos, out->dtype, 0);
    TRY(count_elements(out, tw_itemsize(out->dtype), &need, fault, table.pos));
    if (out->dtype == TW_STRING) {
        out->data = NULL;
        out->nbytes = 0;
        out->offset = out->strings.pos ? out->strings.pos : table.pos;
        if (data.count)
            return tw_fail(fault, TW_MISPLACED, "data", data.pos, data.count, 0);
        if (out->strings.count != out->count)
            return tw_fail(fault, TW_STRINGS, "string_val", out->offset, out->strings.count, (int64_t)out->count);
        return under(out->count, limits->max_strings, "max_strings", &out->strings, fault);
    }
    out->data = tensors->in.base + data.pos;
    out->nbytes = data.count;
    out->offset = data.pos ? data.pos : table.pos;
    if (out->strings.count)
        return tw_fail(fault, TW_MISPLACED, "string_val", out->strings.pos, out->strings.count, 0);
    if (data.count != need)
        return tw_fail(fault, TW_NBYTES, "data", out->offset, data.count, (int64_t)need);
    return TW_OK;
}

tw_status tw_read_error(const tw_vector *errors, uint32_t i, tw_error *out, tw_fault *fault)
{
    tw_table table;
    TRY(tw_vector_table(errors, i, "error", &table, fault));
    TRY(tw_field_i64(&table, 0, "code", &out->code, fault));
    return tw_field_text(&table, 1, "message", &out->message, fault);
}

tw_status tw_read_spec(const tw_vector *specs, uint32_t i, const tw_limits *limits, tw_spec *out, tw_fault *fault)
{
    tw_table table;
    TRY(tw_vector_table(specs, i, "io_metadata", &table, fault));
    TRY(tw_field_text(&table, 0, "name", &out->name, fault));
    TRY(tw_field_text(&table, 1, "description", &out->description, fault));
    TRY(read_shape(&table, 2, -1, limits, &out->ndim, out->shape, fault));
    TRY(tw_field_u8(&table, 3, "type", &out->dtype, fault));
    if (out->dtype >= TW_DTYPE_COUNT)
        return tw_fail(fault, TW_DTYPE, "type", table.pos, out->dtype, 0);
    return TW_OK;
}
