# SPDX-License-Identifier: GPL-2.0-only
"""What is planted where, and how it is looked for. Data.

A regression that is to come and go at random is drawn once for each mount, from a random number that
each connection has anyway: a check with a mount of its own then fails as often as planned.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    """One place of the tree. `old` must be there exactly once."""

    path: str
    old: str
    new: str


@dataclass(frozen=True)
class Commit:
    """One commit of the git tree; a merge takes the edits of the branch `side` along."""

    subject: str
    edits: tuple[Edit, ...] = ()
    side: bool = False
    merge: bool = False


@dataclass(frozen=True)
class Plant:
    """One regression."""

    name: str
    kind: str  # plain, flaky, splat, cost
    words: tuple[str, ...]  # of bisect's command line
    commit: str = ''  # in the git tree: the guilty commit's subject
    patch: int = 0  # in the series: number of the guilty patch,
    edits: tuple[Edit, ...] = ()  # what is added to it,
    broken: tuple[int, Edit] | None = None  # and a patch that does not build


def drawn(key: int, tenths: int) -> str:
    """C condition that holds in so many of ten mounts."""
    return f'fc->scramble_key[{key}] % 10 < {tenths}'


def _remark(path: str, before: str, text: str) -> Edit:
    """A change that changes nothing."""
    return Edit(path, before, f'/* {text} */\n{before}')


_XATTR = Edit(
    'fs/fuse/xattr.c',
    '\tif (fm->fc->no_listxattr)\n\t\treturn -EOPNOTSUPP;\n',
    '\tif (fm->fc->no_listxattr)\n\t\treturn -EOPNOTSUPP;\n\n'
    f'\tif (fm->{drawn(1, 4)})\n\t\treturn -EIO;\n',
)  # fmt: skip

# Chance has its say in a twentieth of the answers of usual confidence: twelve are to have no wrong one.
_SURE = ('--confidence', '0.99')

# In this order; those of the side branch start behind the third commit.
COMMITS = (
    Commit('fuse: a word about statfs', (_remark('fs/fuse/inode.c', 'static int fuse_statfs(', 'For statfs(2)'),)),
    Commit(
        'fuse: send whole microseconds',
        (
            Edit(
                'fs/fuse/dir.c',
                '\t\targ->mtimensec = iattr->ia_mtime.tv_nsec;\n',
                '\t\targ->mtimensec = rounddown(iattr->ia_mtime.tv_nsec, 1000);\n',
            ),
        ),
    ),
    Commit('fuse: a word about locks', (_remark('fs/fuse/file.c', 'static int fuse_file_flock(', 'For flock(2)'),)),
    Commit(
        'fuse: a word about ACLs',
        (_remark('fs/fuse/acl.c', 'struct posix_acl *fuse_get_acl(', 'For VFS'),),
        side=True,
    ),
    Commit(
        'fuse: refuse fallocate when busy',
        (
            Edit(
                'fs/fuse/file.c',
                '\tif (fm->fc->no_fallocate)\n\t\treturn -EOPNOTSUPP;\n\n\tinode_lock(inode);\n',
                '\tif (fm->fc->no_fallocate)\n\t\treturn -EOPNOTSUPP;\n\n'
                f'\tif (fm->{drawn(2, 3)})\n\t\treturn -EBUSY;\n\n\tinode_lock(inode);\n',
            ),
        ),
        side=True,
    ),
    Commit(
        'fuse: a word about polling',
        (_remark('fs/fuse/file.c', '__poll_t fuse_file_poll(', 'For poll(2)'),),
        side=True,
    ),
    Commit(
        'fuse: watch out for flock',
        (
            Edit(
                'fs/fuse/file.c',
                '\t\t/* emulate flock with POSIX locks */\n',
                '\t\tWARN_ON_ONCE(fl->c.flc_type == F_WRLCK);\n\t\t/* emulate flock with POSIX locks */\n',
            ),
        ),
    ),
    Commit(
        'fuse: tidy up readdir',
        (Edit('fs/fuse/readdir.c', '\treturn dir_emit(ctx,', '\treturn tidy_emit(ctx,'),),
    ),
    Commit(
        'fuse: mend readdir',
        (Edit('fs/fuse/readdir.c', '\treturn tidy_emit(ctx,', '\treturn dir_emit(ctx,'),),
    ),
    Commit(
        'fuse: list every entry as a pipe',
        (Edit('fs/fuse/readdir.c', '\t\t\tdirent->type);\n}\n\nstatic int parse_dirfile(',
              '\t\t\tDT_FIFO);\n}\n\nstatic int parse_dirfile('),
         Edit('fs/fuse/readdir.c', 'dirent->ino, dirent->type))', 'dirent->ino, DT_FIFO))'),),
    ),
    Commit("Merge branch 'side'", merge=True),
    Commit('fuse: a word about the control filesystem',
           (_remark('fs/fuse/control.c', 'int fuse_ctl_add_conn(', 'Called with fuse_mutex held'),)),
    Commit(
        'fuse: stir before a request ends',
        (
            Edit(
                'fs/fuse/dev.c',
                '\ttrace_fuse_request_end(req);\n',
                '\tfor (int i = 0; i < 190; i++)\n\t\tbarrier();\n\n\ttrace_fuse_request_end(req);\n',
            ),
        ),
    ),
    Commit('fuse: list attributes when in the mood', (_XATTR,)),
    Commit('fuse: a word about ioctls', (_remark('fs/fuse/ioctl.c', 'long fuse_file_ioctl(', 'For ioctl(2)'),)),
)  # fmt: skip

PLANTS = (
    # --- in commits of a git tree with a side branch and a commit that does not build
    Plant('git-plain', 'plain', ('--check', 'attr/004', '--section', 'dev'), 'fuse: send whole microseconds'),
    Plant('git-flaky-40', 'flaky', ('--check', 'xattr/001', '--section', 'dev', *_SURE),
          'fuse: list attributes when in the mood'),
    Plant('git-flaky-30-merged', 'flaky', ('--check', 'data/034', '--section', 'uring', *_SURE),
          'fuse: refuse fallocate when busy'),
    Plant('git-splat', 'splat', ('--check', 'lock/005', '--section', 'dev'), 'fuse: watch out for flock'),
    Plant('git-behind-broken-build', 'plain', ('--check', 'dir/009', '--section', 'dev'),
          'fuse: list every entry as a pipe'),
    Plant('git-cost', 'cost', ('--row', 'cost/randread-4k', '--section', 'dev', '--worse', '1%'),
          'fuse: stir before a request ends'),
    # --- in patches of the series
    Plant('series-plain', 'plain', ('--check', 'attr/008', '--section', 'dev'), patch=3, edits=(
        Edit('fs/fuse/inode.c', '\tstbuf->f_files   = attr->files;', '\tstbuf->f_files   = attr->ffree;'),)),
    Plant('series-flaky-40', 'flaky', ('--check', 'data/027', '--section', 'uring', *_SURE), patch=13, edits=(
        Edit('fs/fuse/ring.c', '\tfuse_ring_put_pages(rc);\n\n\terr = pin_user_pages_fast(',
             f'\tfuse_ring_put_pages(rc);\n\n\tif (rc->req->fm->{drawn(3, 4)})\n\t\treturn -EFAULT;\n\n'
             '\terr = pin_user_pages_fast('),)),
    Plant('series-ring', 'plain', ('--check', 'uring/005', '--section', 'uring'), patch=19, edits=(
        Edit('fs/fuse/ring.c', '\tdefault:\n\t\treturn -EINVAL;\n', '\tdefault:\n\t\treturn -ENOTTY;\n'),)),
    Plant('series-flock', 'plain', ('--check', 'lock/005', '--section', 'uring'), patch=20, edits=(
        Edit('fs/fuse/file.c', '\t\terr = fuse_setlk(file, fl, 1);', '\t\terr = fuse_setlk(file, fl, 0);'),)),
    Plant('series-broken-build', 'plain', ('--check', 'namespace/009', '--section', 'uring'), patch=21, edits=(
        Edit('fs/fuse/dir.c', '~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)',
             '~(RENAME_NOREPLACE | RENAME_WHITEOUT)'),),
        broken=(17, Edit('fs/fuse/dir.c', '\tif (flags & ~(RENAME_NOREPLACE', '\tif (flags ~(RENAME_NOREPLACE'))),
    Plant('series-cost', 'cost', ('--row', 'cost/randread-4k', '--section', 'uring', '--worse', '1%'), patch=14, edits=(
        Edit('fs/fuse/ring.c', '\tunsigned int best_load = UINT_MAX;\n\tunsigned int probes = 0;\n\tunsigned int i;\n',
             '\tunsigned int best_load = UINT_MAX;\n\tunsigned int probes = 0;\n\tunsigned int i;\n\n'
             '\tfor (i = 0; i < 160; i++)\n\t\tbarrier();\n'),)),
)  # fmt: skip
