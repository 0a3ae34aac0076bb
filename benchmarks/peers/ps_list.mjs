// What fkill chooses from: `node ps_list.mjs FOLDER NAME`, where FOLDER has node_modules.
import {createRequire} from 'node:module';
import {pathToFileURL} from 'node:url';

const [folder, name] = process.argv.slice(2);
const require = createRequire(pathToFileURL(`${folder}/here.js`));
const {default: psList} = await import(pathToFileURL(require.resolve('ps-list')));
for (const found of await psList()) {
	if (found.name === name) {
		console.log(found.pid);
	}
}
