// SPDX-License-Identifier: GPL-2.0-only
'use strict';
(() => {
	const form = document.getElementById('filter');
	if (!form)
		return;
	const table = document.getElementById('checks');
	const bodies = [...table.tBodies];
	const texts = new Map(bodies.map((body) => [body, body.rows[0].textContent.toLowerCase()]));
	const words = document.getElementById('words');
	const section = document.getElementById('section');
	const flaky = document.getElementById('flaky');

	function apply() {
		const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
		const verdicts = new Set([...form.querySelectorAll('[name=verdict]:checked')].map((box) => box.value));
		let shown = 0;
		for (const body of bodies) {
			const fits = verdicts.has(body.dataset.verdict) &&
				(!section.value || section.value === body.dataset.section) &&
				(!flaky.checked || 'flaky' in body.dataset) &&
				wanted.every((word) => texts.get(body).includes(word));
			body.hidden = !fits;
			shown += fits;
		}
		document.getElementById('shown').textContent = `${shown} of ${bodies.length}`;
	}

	table.tHead.addEventListener('click', (event) => {
		const head = event.target.closest('[data-sort]');
		if (!head)
			return;
		const column = head.cellIndex;
		const down = head.dataset.order === (head.dataset.sort === 'number' ? 'up' : 'down') ||
			(head.dataset.sort === 'number' && !head.dataset.order);
		head.dataset.order = down ? 'down' : 'up';
		const value = (body) => {
			const cell = body.rows[0].cells[column];
			return head.dataset.sort === 'number' ? parseFloat(cell.dataset.value || cell.textContent) || 0 : cell.textContent;
		};
		const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1);
		bodies.map((body) => [value(body), body]).sort((a, b) => compare(a[0], b[0])).forEach((pair) => table.append(pair[1]));
	});
	form.addEventListener('submit', (event) => event.preventDefault());
	form.addEventListener('input', apply);
	form.hidden = false;
	apply();
})();
