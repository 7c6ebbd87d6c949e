"""Whole MXNet networks with random weights: the families of SqueezeNet, AlexNet, VGG, ResNet and MobileNet, small."""

from __future__ import annotations

from mxnet_nets import Net

__all__ = ["FAMILIES"]


def squeezenet() -> Net:
    net = Net()
    net.conv(16, 3, stride=(2, 2))
    net.relu()
    net.add("Pooling", pool_type="max", kernel=(3, 3), stride=(2, 2), pooling_convention="full")
    for squeeze in (4, 8):
        net.conv(squeeze, 1)
        start = net.relu()
        net.conv(4 * squeeze, 1)
        left = net.relu()
        net.x, net.channels = start, squeeze
        net.conv(4 * squeeze, 3, pad=(1, 1))
        right = net.relu()
        net.add("Concat", [left, right], dim=1, num_args=2)
        net.channels = 8 * squeeze
    net.add("Dropout", p=0.5)
    net.conv(10, 1)
    net.relu()
    net.add("Pooling", pool_type="avg", kernel=(13, 13), global_pool=True)
    net.add("Flatten")
    net.classify()
    return net


def alexnet() -> Net:
    net = Net()
    net.conv(12, 11, stride=(4, 4))
    net.relu()
    net.add("LRN", alpha=0.0001, beta=0.75, knorm=2, nsize=5)
    net.add("Pooling", pool_type="max", kernel=(3, 3), stride=(2, 2))
    net.conv(16, 5, pad=(2, 2), group=2)
    net.relu()
    net.add("Pooling", pool_type="max", kernel=(3, 3), stride=(2, 2))
    net.add("Flatten")
    net.dense(32, 16 * 4 * 4)
    net.relu()
    net.add("Dropout", p=0.5)
    net.dense(10, 32)
    net.classify()
    return net


def vgg() -> Net:
    net = Net()
    for filters in (8, 16, 16):
        for _ in range(2):
            net.conv(filters, 3, pad=(1, 1))
            net.relu()
        net.add("Pooling", pool_type="max", kernel=(2, 2), stride=(2, 2))
    net.dense(32, 16 * 4 * 4)
    net.relu()
    net.dense(10, 32)
    net.classify()
    return net


def resnet() -> Net:
    """The second kind, as in MXNet's model zoo: normalization first, without a gamma on the data."""
    net = Net()
    net.norm(fix_gamma=True, eps=2e-5)
    net.conv(8, 7, bias=False, stride=(2, 2), pad=(3, 3))
    net.norm(fix_gamma=False, eps=2e-5, momentum=0.9)
    net.relu()
    net.add("Pooling", pool_type="max", kernel=(3, 3), stride=(2, 2), pad=(1, 1))
    for filters, stride in ((8, 1), (16, 2)):
        start, channels = net.x, net.channels
        net.norm(fix_gamma=False, eps=2e-5)
        first = net.relu()
        net.conv(filters, 3, bias=False, pad=(1, 1), stride=(stride, stride))
        net.norm(fix_gamma=False, eps=2e-5)
        net.relu()
        last = net.conv(filters, 3, bias=False, pad=(1, 1))
        shortcut = start
        if stride > 1:
            net.x, net.channels = first, channels
            shortcut = net.conv(filters, 1, bias=False, stride=(stride, stride))
        net.add("elemwise_add", [last, shortcut])
    net.norm(fix_gamma=False, eps=2e-5)
    net.relu()
    net.add("Pooling", pool_type="avg", kernel=(7, 7), global_pool=True)
    net.add("Flatten")
    net.dense(10, 16)
    net.classify()
    return net


def mobilenet() -> Net:
    net = Net(key="attr")  # as files before MXNet 1.0 have it
    net.conv(8, 3, bias=False, stride=(2, 2), pad=(1, 1))
    net.norm(fix_gamma=False)
    net.relu()
    for filters, stride in ((16, 1), (24, 2), (24, 1)):
        group = net.channels
        net.conv(group, 3, bias=False, group=group, stride=(stride, stride), pad=(1, 1))
        net.norm()
        net.add("clip", a_min=0, a_max=6)
        net.conv(filters, 1, bias=False)
        net.norm(fix_gamma=False)
        net.relu()
    net.add("Pooling", pool_type="avg", kernel=(1, 1), global_pool=True)
    net.conv(10, 1)
    net.add("Reshape", shape=(0, -1))
    net.classify()
    return net


FAMILIES = {
    "alexnet": (alexnet, 95),
    "mobilenet": (mobilenet, 32),
    "resnet": (resnet, 32),
    "squeezenet": (squeezenet, 63),
    "vgg": (vgg, 32),
}
"""By name: a function that makes a network, and the side of its square image."""
